"""Time and waking, on asyncio's loop or trio's: a signal to sleep on, and a fuse that cancels what takes too long.

A stream waits once for each of its events, and writes once. On asyncio a cancel scope with a deadline and an
`anyio.Event` for each of these were the dearest part of an event; here they are a bare future, and a timer that is set
once and moved by writing down a number.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

import anyio


def clock() -> Callable[[], float]:
    """The running event loop's own clock, in seconds."""
    loop = _asyncio_loop()
    return anyio.current_time if loop is None else loop.time


def _asyncio_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # trio
        return None


class Waiter(Protocol):
    """Something to sleep on, once."""

    def wake(self) -> None:
        """End the sleep, or prevent it."""
        ...

    async def sleep(self) -> None:
        """Return when woken."""
        ...


def new_waiter() -> Waiter:
    """A sleeper on the running event loop."""
    loop = _asyncio_loop()
    return _TrioWaiter() if loop is None else _AsyncioWaiter(loop)


class _AsyncioWaiter:
    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def sleep(self) -> None:
        await self._future


class _TrioWaiter:
    def __init__(self) -> None:
        self._event = anyio.Event()

    def wake(self) -> None:
        self._event.set()

    async def sleep(self) -> None:
        await self._event.wait()


class WakeEvent(Protocol):
    """Lets one task sleep until it is called, or for so long. A call that comes while it is awake is not lost."""

    def set(self) -> None:
        """Wake the sleeper, or keep it from sleeping next time."""
        ...

    async def wait(self, seconds: float) -> None:
        """Sleep until called since the last wait, or until `seconds` have passed."""
        ...

    def close(self) -> None:
        """Nobody sleeps on it any more."""
        ...


def new_wake_event() -> WakeEvent:
    """A signal on the running event loop."""
    loop = _asyncio_loop()
    return _TrioWakeEvent() if loop is None else _AsyncioWakeEvent(loop)


class _AsyncioWakeEvent:
    __slots__ = ("_alarm", "_called", "_loop", "_sleeping")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._alarm = ReusableTimer(loop)
        self._called = False
        self._sleeping: asyncio.Future[None] | None = None

    def set(self) -> None:
        self._called = True
        self._wake()

    def _wake(self) -> None:
        if self._sleeping is not None and not self._sleeping.done():
            self._sleeping.set_result(None)

    async def wait(self, seconds: float) -> None:
        if not self._called and seconds > 0:
            self._sleeping = self._loop.create_future()
            self._alarm.set(seconds, self._wake)
            try:
                await self._sleeping
            finally:
                self._sleeping = None
                self._alarm.off()
        self._called = False

    def close(self) -> None:
        self._alarm.close()


class _TrioWakeEvent:
    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, seconds: float) -> None:
        with anyio.move_on_after(max(0, seconds)):
            await self._event.wait()
        if self._event.is_set():
            self._event = anyio.Event()

    def close(self) -> None:
        pass


class WriteTimeout:
    """Cancels a scope unless it is put out in time. It may be lit again and again."""

    __slots__ = ("_alarm", "_scope")

    def __init__(self, scope: anyio.CancelScope) -> None:
        loop = _asyncio_loop()
        self._alarm = None if loop is None else ReusableTimer(loop)
        self._scope = scope

    def light(self, seconds: float) -> None:
        """Cancel in `seconds`."""
        if self._alarm is None:
            self._scope.deadline = anyio.current_time() + seconds
        else:
            self._alarm.set(seconds, self._scope.cancel)

    def put_out(self) -> None:
        """Do not."""
        if self._alarm is None:
            self._scope.deadline = math.inf
        else:
            self._alarm.off()

    def close(self) -> None:
        """It is not needed any more."""
        if self._alarm is not None:
            self._alarm.close()


class ReusableTimer:
    """Calls a function in so many seconds. A timer that goes off too early, the alarm having been moved, is set anew."""

    __slots__ = ("_due", "_goes_off", "_loop", "_ring", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._ring: Callable[[], object] | None = None
        self._goes_off = 0.0  # when the timer does; loops need not tell it: uvloop's have none for one that is due
        self._due = 0.0

    def set(self, seconds: float, ring: Callable[[], object]) -> None:
        """Call `ring` in `seconds`, instead of what was set before."""
        self._ring = ring
        self._due = due = self._loop.time() + seconds
        if due == math.inf or (self._timer is not None and self._goes_off <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._start(due)

    def _start(self, due: float) -> None:
        self._goes_off = due
        self._timer = self._loop.call_at(due, self._gone_off)

    def off(self) -> None:
        """Call nothing."""
        self._ring = None

    def close(self) -> None:
        """Call nothing ever again."""
        self._ring = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _gone_off(self) -> None:
        self._timer = None
        if self._ring is None:
            return
        if self._loop.time() >= self._due:
            ring, self._ring = self._ring, None
            ring()
        elif self._due < math.inf:
            self._start(self._due)
