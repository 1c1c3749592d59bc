"""Time and waking, on asyncio's loop or trio's: an alarm that is cheap to move, and a signal to sleep on.

A stream waits once for each of its events. With a cancel scope and an `anyio.Event` for each wait, waiting was the
dearest part of an event; here it is a bare future, and a timer that is set once and moved by writing down a number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import anyio

from .tasks import Task, spawn


def clock() -> Callable[[], float]:
    """The running event loop's own clock, in seconds."""
    try:
        return asyncio.get_running_loop().time
    except RuntimeError:
        return anyio.current_time


class Alarm(Protocol):
    """Calls a function when its time has come. Moving it costs next to nothing, so it may guard every single event."""

    def set(self, seconds: float, ring: Callable[[], None]) -> None:
        """Call `ring` in `seconds`, instead of what was set before."""
        ...

    def off(self) -> None:
        """Call nothing."""
        ...

    def close(self) -> None:
        """Call nothing ever again."""
        ...


def new_alarm() -> Alarm:
    """An alarm on the running event loop."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _TrioAlarm()
    return _AsyncioAlarm(loop)


class _AsyncioAlarm:
    """A timer that goes off too early, since the alarm was moved meanwhile, is simply set anew."""

    __slots__ = ("_due", "_loop", "_ring", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._ring: Callable[[], None] | None = None
        self._due = 0.0

    def set(self, seconds: float, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._due = due = self._loop.time() + seconds
        if self._timer is not None and self._timer.when() <= due:
            return
        self._drop_timer()
        self._timer = self._loop.call_at(due, self._gone_off)

    def off(self) -> None:
        self._ring = None

    def close(self) -> None:
        self._ring = None
        self._drop_timer()

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _gone_off(self) -> None:
        self._timer = None
        ring = self._ring
        if ring is None:
            return
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._gone_off)
        else:
            self._ring = None
            ring()


class _TrioAlarm:
    def __init__(self) -> None:
        self._ring: Callable[[], None] | None = None
        self._scope = anyio.CancelScope()
        self._task: Task | None = None
        self._closed = False

    def set(self, seconds: float, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._scope.deadline = anyio.current_time() + seconds
        if self._task is None:
            self._task = spawn(self._run, "alarm", lambda: None)

    def off(self) -> None:
        self._ring = None

    def close(self) -> None:
        self._ring = None
        self._closed = True
        self._scope.cancel()

    async def _run(self) -> None:
        while not self._closed:
            with self._scope:
                await anyio.sleep_forever()
            ring, self._ring = self._ring, None
            self._scope = anyio.CancelScope()
            if ring is not None:
                ring()


class Signal:
    """Lets one task sleep until it is called, or for so long. A call that comes while it is awake is not lost."""

    __slots__ = ("_alarm", "_called", "_sleeper")

    def __init__(self) -> None:
        self._alarm = new_alarm()
        self._called = False
        self._sleeper: Sleeper | None = None

    def set(self) -> None:
        """Wake the sleeper, or keep it from sleeping next time."""
        self._called = True
        if self._sleeper is not None:
            self._sleeper.wake()

    async def wait(self, seconds: float) -> bool:
        """Sleep until called since the last wait, True, or until `seconds` have passed, False."""
        if not self._called and seconds > 0:
            self._sleeper = sleeper = new_sleeper()
            self._alarm.set(seconds, sleeper.wake)
            try:
                await sleeper.sleep()
            finally:
                self._sleeper = None
                self._alarm.off()
        called, self._called = self._called, False
        return called

    def close(self) -> None:
        """Free the alarm."""
        self._alarm.close()


class Sleeper(Protocol):
    """Something to sleep on, once."""

    def wake(self) -> None:
        """End the sleep, or prevent it."""
        ...

    async def sleep(self) -> None:
        """Return when woken."""
        ...


def new_sleeper() -> Sleeper:
    """Something to sleep on, once."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _TrioSleeper()
    return _AsyncioSleeper(loop)


class _AsyncioSleeper:
    """A bare future: an `anyio.Event` costs several times as much, for each event of each stream."""

    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def sleep(self) -> None:
        await self._future


class _TrioSleeper:
    def __init__(self) -> None:
        self._event = anyio.Event()

    def wake(self) -> None:
        self._event.set()

    async def sleep(self) -> None:
        await self._event.wait()
