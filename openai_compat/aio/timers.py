"""Waiting and timeouts, on asyncio's loop or trio's: an event to sleep on, and a timeout for a scope.

A stream waits once for each of its events, and writes once. On asyncio a cancel scope with a deadline and an
`anyio.Event` for each of these cost most of the time per event. Here: one future, and one timer rescheduled lazily.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
from collections.abc import Callable
from typing import Protocol, TypeAlias

import anyio


def clock() -> Callable[[], float]:
    """The running event loop's own clock, in seconds."""
    loop = asyncio_loop()
    return anyio.current_time if loop is None else loop.time


def asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """The running event loop; None on trio. Asked for once where several things need it: it is a system call."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # trio
        return None


class Soon(Protocol):
    """A call that is due in the event loop's next turn."""

    def cancel(self) -> None:
        """Do not make it, if it was not made yet."""
        ...


def call_soon(loop: asyncio.AbstractEventLoop | None, callback: Callable[[], object]) -> Soon:
    """Call something in the event loop's next turn: while the running task waits, unless it is over by then."""
    return _TrioSoon(callback) if loop is None else loop.call_soon(callback)


class _TrioSoon:
    def __init__(self, callback: Callable[[], object]) -> None:
        import trio  # noqa: PLC0415  (only reached where trio runs; no dependency of ours)

        self._callback: Callable[[], object] | None = callback
        trio.lowlevel.current_trio_token().run_sync_soon(self._call)

    def _call(self) -> None:
        if self._callback is not None:
            self._callback()

    def cancel(self) -> None:
        self._callback = None


class Waiter(Protocol):
    """Lets one task sleep, once, until it is woken."""

    def wake(self) -> None:
        """End the sleep. Called before it, `sleep` returns at once."""
        ...

    async def sleep(self) -> None:
        """Return when woken, at once if that was before."""
        ...


def new_waiter() -> Waiter:
    """A waiter on the running event loop."""
    loop = asyncio_loop()
    return _TrioWaiter() if loop is None else _AsyncioWaiter(loop)


class _AsyncioWaiter:
    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> None:
        # It is done as well when the task that slept was cancelled; to set it then is an error.
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


Instead: TypeAlias = Callable[[float], float | None]
"""Called in place of waking a task, with the event loop's time. Returns until when the task may go on sleeping; None if
it is to be woken."""


class WakeEvent(Protocol):
    """Lets one task sleep until it is set, or until some time. A `set` that comes while the task is awake is not lost."""

    @property
    def clock(self) -> Callable[[], float]:
        """The event loop's own clock, in seconds."""
        ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop; None on trio."""
        ...

    def set(self) -> None:
        """Wake the task, or make its next `wait` return at once."""
        ...

    def offer(self) -> None:
        """As `set`, for something that may be done instead of waking the task: see `wait`.

        It is done in the loop's next turn, so that all that is there by then is done together.
        """
        ...

    async def wait(self, until: float, instead: Instead | None = None) -> None:
        """Sleep until `set` was called since the last wait, or until a time of the event loop's clock.

        With `instead`, it is called for an `offer` where the event loop can do so: it may do the task's work, and let it
        sleep. Never within itself, and not again before the next `wait` once the task is to be woken.
        """
        ...

    def close(self) -> None:
        """Drop the timer. Call it when no task waits any more."""
        ...


def new_wake_event(loop: asyncio.AbstractEventLoop | None) -> WakeEvent:
    """A wake event on the running event loop, which is `loop`."""
    return _TrioWakeEvent() if loop is None else _AsyncioWakeEvent(loop)


class ReusableTimer:
    """Calls a function in so many seconds.

    Starting it later only writes down the new time: a timer that fires too early is scheduled once more for the rest.

    Attributes:
        loop: the event loop.
        due: when it is called, by the event loop's clock. To be set to a later time only; `start_at` takes any.
    """

    __slots__ = ("_callback", "_fires_at", "_timer", "due", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._callback: Callable[[], object] | None = None
        self._fires_at = 0.0  # kept here, since `TimerHandle.when` of uvloop knows nothing of a timer that is due
        self.due = 0.0

    def start(self, seconds: float, callback: Callable[[], object]) -> None:
        """Call `callback` in `seconds`, instead of the one set before."""
        self.start_at(self.loop.time() + seconds, callback)

    def start_at(self, due: float, callback: Callable[[], object]) -> None:
        """The same at a time of the event loop's clock."""
        self._callback = callback
        self.due = due
        # one number instead of a timer cancelled and made for each write: `_fired` looks at it
        if due == math.inf or (self._timer is not None and self._fires_at <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._fires_at = due
        self._timer = self.loop.call_at(due, self._fired)

    def stop(self) -> None:
        """Call nothing. The loop's timer stays, for the next start."""
        self._callback = None

    def close(self) -> None:
        """Call nothing, and drop the loop's timer."""
        self._callback = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fired(self) -> None:
        self._timer = None
        if self._callback is None:
            return
        if self.loop.time() >= self.due:
            callback, self._callback = self._callback, None
            callback()
        elif self.due < math.inf:
            self.start_at(self.due, self._callback)


class _AsyncioWakeEvent(ReusableTimer):
    """A timer as well, for the time until which is waited: for each event it would be another object to look at."""

    __slots__ = ("_asking", "_context", "_instead", "_is_set", "_offers", "_sleeping", "clock")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.clock = loop, loop.time
        self._callback = self._timer = None
        self._fires_at = self.due = 0.0
        self._is_set = False
        self._sleeping: asyncio.Future[None] | None = None
        self._instead: Instead | None = None
        self._context: contextvars.Context | None = None
        self._asking = False  # or about to ask
        offers = _of_thread.offers
        if offers is None or offers.loop is not loop:
            offers = _of_thread.offers = _Offers(loop)
        self._offers = offers

    def set(self) -> None:
        self._is_set = True
        if self._sleeping is not None:
            self._instead = None
            self._wake()

    def offer(self) -> None:
        if self._instead is None:
            self.set()
        elif self._asking:
            self._is_set = True
        else:
            self._asking = True
            events = self._offers.events
            if not events:
                self._offers.ask_soon()
            events.append(self)

    def ask(self, now: float) -> None:
        """Have what was offered done in place of waking the task, unless that was woken meanwhile."""
        if self._instead is None:
            self._asking = False
            return
        self._is_set = False
        try:
            # In the context of the task that sleeps, since it is that task's work.
            until = self._instead(now) if self._context is None else self._context.run(self._instead, now)
        finally:
            self._asking = False
        if until is None:
            self.set()
        elif until >= self.due:
            self.due = until
        else:
            self.start_at(until, self._wake)
        if self._is_set and until is not None:  # offered meanwhile
            self.offer()

    def _wake(self) -> None:
        if self._sleeping is not None and not self._sleeping.done():
            self._sleeping.set_result(None)

    async def wait(self, until: float, instead: Instead | None = None) -> None:
        if not self._is_set and until > self.clock():
            self._sleeping = self.loop.create_future()
            self.start_at(until, self._wake)
            if instead is not None:
                self._instead = instead
                self._context = self._context or contextvars.copy_context()
            try:
                await self._sleeping
            finally:
                self._sleeping = self._instead = None
                self.stop()
        self._is_set = False

    def close(self) -> None:
        if self._timer is not None:  # many never wait
            super().close()
        self._context = None


class _Offers:
    """What is offered in one turn of an event loop, by whichever tasks: all of it is done in one go in the next turn.

    Code that runs again and again without a pause is quicker by a tenth than where others come between, and it is one
    callback of the loop for all of them.
    """

    __slots__ = ("_context", "events", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._context = contextvars.Context()  # each of them has its own
        self.events: list[_AsyncioWakeEvent] = []

    def ask_soon(self) -> None:
        """Called with the first event of a turn."""
        self.loop.call_soon(self._ask, context=self._context)

    def _ask(self) -> None:
        events, self.events = self.events, []
        now = self.loop.time()
        for event in events:
            try:
                event.ask(now)
            except Exception as error:  # a bug in what one task has offered must not keep the others waiting
                self.loop.call_exception_handler({"message": "what was offered could not be done", "exception": error})


class _OfThread(threading.local):
    offers: _Offers | None = None


_of_thread = _OfThread()


class _TrioWakeEvent:
    def __init__(self) -> None:
        self.clock = anyio.current_time
        self.loop = None
        self._event = anyio.Event()

    def set(self) -> None:
        self._event.set()

    def offer(self) -> None:
        self._event.set()

    async def wait(self, until: float, instead: Instead | None = None) -> None:
        with anyio.move_on_at(until):
            await self._event.wait()
        if self._event.is_set():
            self._event = anyio.Event()

    def close(self) -> None:
        pass


_asyncio_scope: Callable[[], anyio.CancelScope] | None = None


def new_scope(loop: asyncio.AbstractEventLoop | None) -> anyio.CancelScope:
    """A cancel scope on the running event loop, which is `loop`."""
    global _asyncio_scope  # noqa: PLW0603  (found out once)
    if loop is None:
        return anyio.CancelScope()
    if _asyncio_scope is None:
        # `anyio.CancelScope` is no class of scopes but asks, each time, which loop runs: four fifths of what it takes.
        _asyncio_scope = type(anyio.CancelScope())
    return _asyncio_scope()


class ScopeTimeout:
    """Cancels a scope unless it is stopped in time. It may be started again and again."""

    __slots__ = ("_scope", "_timer")

    def __init__(self, scope: anyio.CancelScope) -> None:
        loop = asyncio_loop()
        self._timer = None if loop is None else ReusableTimer(loop)
        self._scope = scope

    def start(self, seconds: float) -> None:
        """Cancel the scope in `seconds`."""
        if self._timer is None:
            self._scope.deadline = anyio.current_time() + seconds
        else:
            self._timer.start(seconds, self._scope.cancel)

    def stop(self) -> None:
        """Let the scope go on."""
        if self._timer is None:
            self._scope.deadline = math.inf
        else:
            self._timer.stop()

    def close(self) -> None:
        """Drop the timer. It cannot be started again."""
        if self._timer is not None:
            self._timer.close()
