"""Waiting and timeouts on asyncio or trio: an event to sleep on, and a timeout for a scope.

A stream waits once and writes once per event. On asyncio, a cancel scope with a deadline and an `anyio.Event` for each
of these took most of the time per event. Instead: one future, and one timer that is rescheduled lazily.
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
    """Return the running event loop's clock, in seconds."""
    loop = asyncio_loop()
    return anyio.current_time if loop is None else loop.time


def asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """Return the running event loop; None on trio. Reuse the result, since this is a system call."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # trio
        return None


class ScheduledCall(Protocol):
    """A call that is due in the next iteration of the event loop."""

    def cancel(self) -> None:
        """Skip the call, if it has not happened yet."""
        ...


def call_soon(loop: asyncio.AbstractEventLoop | None, callback: Callable[[], object]) -> ScheduledCall:
    """Schedule a call for the next iteration of the event loop, that is, once the running task waits or ends."""
    return _TrioScheduledCall(callback) if loop is None else loop.call_soon(callback)


class _TrioScheduledCall:
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
    """Lets one task sleep once, until it is woken."""

    def wake(self) -> None:
        """End the sleep. If called first, `sleep` returns at once."""
        ...

    async def sleep(self) -> None:
        """Sleep until woken; return at once if woken before."""
        ...


def new_waiter() -> Waiter:
    """Create a waiter on the running event loop."""
    loop = asyncio_loop()
    return _TrioWaiter() if loop is None else _AsyncioWaiter(loop)


class _AsyncioWaiter:
    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> None:
        # The future is also done if the sleeping task was cancelled; setting a result would then raise.
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


OfferHandler: TypeAlias = Callable[[float], float | None]
"""Called with the event loop's time, instead of waking a task. Returns the time until which the task may keep sleeping, or
None to wake it."""


class WakeEvent(Protocol):
    """Lets one task sleep until it is set, or until a given time. A `set` while the task is awake is not lost."""

    @property
    def clock(self) -> Callable[[], float]:
        """The event loop's clock, in seconds."""
        ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop; None on trio."""
        ...

    def set(self) -> None:
        """Wake the task, or make its next `wait` return at once."""
        ...

    def offer(self) -> None:
        """Like `set`, for work that may be done without waking the task: see `wait`.

        The work is done in the next iteration of the loop, so that all work available by then is done together.
        """
        ...

    async def wait(self, until: float, on_offer: OfferHandler | None = None) -> None:
        """Sleep until `set` is called (or was, since the last wait), or until a time of the event loop's clock.

        If the event loop supports it, an `offer` calls `on_offer`, which may do the task's work and let the task sleep on.
        `on_offer` never runs nested, and after it asked to wake the task, not again before the next `wait`.
        """
        ...

    def close(self) -> None:
        """Release the timer. Call it once no task waits any more."""
        ...


def new_wake_event(loop: asyncio.AbstractEventLoop | None) -> WakeEvent:
    """Create a wake event on the running event loop, `loop`."""
    return _TrioWakeEvent() if loop is None else _AsyncioWakeEvent(loop)


class ReusableTimer:
    """Calls a function after a time.

    Postponing the call only stores the new time: a timer that fires too early is scheduled again for the rest.

    Attributes:
        loop: the event loop.
        due: time of the call, on the event loop's clock. Only set it to a later time; `start_at` accepts any.
    """

    __slots__ = ("_callback", "_fires_at", "_timer", "due", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._callback: Callable[[], object] | None = None
        self._fires_at = 0.0  # stored here, since uvloop's `TimerHandle.when` is unusable for a timer that is due
        self.due = 0.0

    def start(self, seconds: float, callback: Callable[[], object]) -> None:
        """Call `callback` in `seconds`, in place of any earlier callback."""
        self.start_at(self.loop.time() + seconds, callback)

    def start_at(self, due: float, callback: Callable[[], object]) -> None:
        """Call `callback` at a time of the event loop's clock, in place of any earlier callback."""
        self._callback = callback
        self.due = due
        # storing a number is cheaper than cancelling and creating a timer per write: `_on_timer` checks it
        if due == math.inf or (self._timer is not None and self._fires_at <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._fires_at = due
        self._timer = self.loop.call_at(due, self._on_timer)

    def stop(self) -> None:
        """Cancel the call. The loop's timer is kept for the next start."""
        self._callback = None

    def close(self) -> None:
        """Cancel the call, and release the loop's timer."""
        self._callback = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        if self._callback is None:
            return
        if self.loop.time() >= self.due:
            callback, self._callback = self._callback, None
            callback()
        elif self.due < math.inf:
            self.start_at(self.due, self._callback)


class _AsyncioWakeEvent(ReusableTimer):
    """Also the timer of its own deadline, which saves an object per event."""

    __slots__ = ("_context", "_is_offered", "_is_set", "_offers", "_on_offer", "_sleeping", "clock")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.clock = loop, loop.time
        self._callback = self._timer = None
        self._fires_at = self.due = 0.0
        self._is_set = False
        self._sleeping: asyncio.Future[None] | None = None
        self._on_offer: OfferHandler | None = None
        self._context: contextvars.Context | None = None
        self._is_offered = False  # or queued to be called
        offers = _thread_local.offers
        if offers is None or offers.loop is not loop:
            offers = _thread_local.offers = _Offers(loop)
        self._offers = offers

    def set(self) -> None:
        self._is_set = True
        if self._sleeping is not None:
            self._on_offer = None
            self._wake()

    def offer(self) -> None:
        if self._on_offer is None:
            self.set()
        elif self._is_offered:
            self._is_set = True
        else:
            self._is_offered = True
            events = self._offers.events
            if not events:
                self._offers.schedule()
            events.append(self)

    def run_offer(self, now: float) -> None:
        """Run `on_offer` in place of waking the task, unless the task was woken meanwhile."""
        if self._on_offer is None:
            self._is_offered = False
            return
        self._is_set = False
        try:
            # In the context of the sleeping task, since this is its work.
            until = self._on_offer(now) if self._context is None else self._context.run(self._on_offer, now)
        finally:
            self._is_offered = False
        if until is None:
            self.set()
        elif until >= self.due:
            self.due = until
        else:
            self.start_at(until, self._wake)
        if self._is_set and until is not None:  # another offer came meanwhile
            self.offer()

    def _wake(self) -> None:
        if self._sleeping is not None and not self._sleeping.done():
            self._sleeping.set_result(None)

    async def wait(self, until: float, on_offer: OfferHandler | None = None) -> None:
        if not self._is_set and until > self.clock():
            self._sleeping = self.loop.create_future()
            self.start_at(until, self._wake)
            if on_offer is not None:
                self._on_offer = on_offer
                self._context = self._context or contextvars.copy_context()
            try:
                await self._sleeping
            finally:
                self._sleeping = self._on_offer = None
                self.stop()
        self._is_set = False

    def close(self) -> None:
        if self._timer is not None:  # many events never wait
            super().close()
        self._context = None


class _Offers:
    """Collects the offers of all tasks in one iteration of an event loop, to run them together in the next one.

    Running the same code repeatedly is a tenth faster than interleaving it with other code, and it needs only one callback
    of the loop.
    """

    __slots__ = ("_context", "events", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._context = contextvars.Context()  # each offer runs in its own context
        self.events: list[_AsyncioWakeEvent] = []

    def schedule(self) -> None:
        """Called for the first offer of an iteration."""
        self.loop.call_soon(self._run_offers, context=self._context)

    def _run_offers(self) -> None:
        events, self.events = self.events, []
        now = self.loop.time()
        for event in events:
            try:
                event.run_offer(now)
            except Exception as error:  # a bug in one task's work must not stop the others
                self.loop.call_exception_handler({"message": "what was offered could not be done", "exception": error})


class _ThreadLocal(threading.local):
    offers: _Offers | None = None


_thread_local = _ThreadLocal()


class _TrioWakeEvent:
    def __init__(self) -> None:
        self.clock = anyio.current_time
        self.loop = None
        self._event = anyio.Event()

    def set(self) -> None:
        self._event.set()

    def offer(self) -> None:
        self._event.set()

    async def wait(self, until: float, on_offer: OfferHandler | None = None) -> None:
        with anyio.move_on_at(until):
            await self._event.wait()
        if self._event.is_set():
            self._event = anyio.Event()

    def close(self) -> None:
        pass


_asyncio_scope: Callable[[], anyio.CancelScope] | None = None


def new_scope(loop: asyncio.AbstractEventLoop | None) -> anyio.CancelScope:
    """Create a cancel scope on the running event loop, `loop`."""
    global _asyncio_scope  # noqa: PLW0603  (found out once)
    if loop is None:
        return anyio.CancelScope()
    if _asyncio_scope is None:
        # `anyio.CancelScope()` looks up the running loop on each call, which takes four fifths of its time.
        _asyncio_scope = type(anyio.CancelScope())
    return _asyncio_scope()


class ScopeTimeout:
    """Cancels a scope unless it is stopped in time. Can be restarted."""

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
        """Stop the timeout."""
        if self._timer is None:
            self._scope.deadline = math.inf
        else:
            self._timer.stop()

    def close(self) -> None:
        """Release the timer. The timeout cannot be started again."""
        if self._timer is not None:
            self._timer.close()
