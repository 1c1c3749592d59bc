"""CPU-bound work that would block an event loop, in a separate thread.

The interpreter lets thread and loop take turns. One such thread per event loop: more would only slow the loop down.
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
"""Number of messages, or items, that may be parsed or serialized on the event loop."""


async def run_off_loop(work: Callable[[Unpack[Args]], Result], *args: *Args, long: bool = True) -> Result:
    """Run `work(*args)` in a thread, or directly if not `long`. The work cannot be interrupted."""
    if not long:
        return work(*args)
    limiter = _one_at_a_time.get()
    if limiter is None:
        limiter = anyio.CapacityLimiter(1)
        _one_at_a_time.set(limiter)
    return await anyio.to_thread.run_sync(work, *args, limiter=limiter)
