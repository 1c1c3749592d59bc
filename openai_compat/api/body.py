"""Bodies and frames that are parsed beside the event loop, if they are large."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple, Unpack

from ..aio.off_loop import off_loop
from ..wire.json import is_quick

Result = TypeVar("Result")
Args = TypeVarTuple("Args")

QUICK_FRAME = 50_000
"""Bytes of a frame that are read in no time, whatever they hold."""


async def parse_body(body: bytes, parse: Callable[[Unpack[Args]], Result], *args: *Args) -> Result:
    """Parse a body by `parse(*args)`: in a thread, if it is large. Raises what that raises."""
    return await off_loop(parse, *args, long=not is_quick(body))


async def parse_frame(size: int, parse: Callable[[Unpack[Args]], Result], *args: *Args) -> Result:
    """The same for a frame of a WebSocket, and for what was in one of this size."""
    return await off_loop(parse, *args, long=size > QUICK_FRAME)
