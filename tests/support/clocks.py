"""Event loops whose clock can jump, so that a deadline expires at any step without waiting."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import trio
import trio.testing


class JumpingLoop(asyncio.SelectorEventLoop):
    """An asyncio loop whose clock can jump ahead."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


def backends() -> list[Any]:
    """Parameters of the `anyio_backend` fixture for tests that use `jump`."""
    return [
        ("asyncio", {"loop_factory": JumpingLoop}),
        ("trio", {"clock": trio.testing.MockClock(rate=1.0)}),
    ]


def jump(seconds: float) -> None:
    """Advance the running loop's clock."""
    if anyio.get_cancelled_exc_class() is trio.Cancelled:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        clock.jump(seconds)
        return
    loop = asyncio.get_running_loop()
    assert isinstance(loop, JumpingLoop)
    loop.ahead += seconds
