"""Work that computes for longer than an event loop has time for, in a thread beside it.

The interpreter lets both run in turns. One such thread for each event loop: more of them would only leave it less.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple, Unpack

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

Result = TypeVar("Result")
Args = TypeVarTuple("Args")

_one_at_a_time: RunVar[anyio.CapacityLimiter | None] = RunVar("openai_compat.aio.off_loop", None)


MANY = 300
"""Messages, or items, that the event loop has time to look at, or to write."""


async def off_loop(work: Callable[[Unpack[Args]], Result], *args: *Args, long: bool = True) -> Result:
    """Runs `work(*args)` in a thread, or at once if it is not `long`. It cannot be interrupted."""
    if not long:
        return work(*args)
    limiter = _one_at_a_time.get()
    if limiter is None:
        limiter = anyio.CapacityLimiter(1)
        _one_at_a_time.set(limiter)
    return await anyio.to_thread.run_sync(work, *args, limiter=limiter)
