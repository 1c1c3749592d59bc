"""A task that outlives the call which started it, and is cancelled as its event loop's own tasks are.

Agents run in such a task, not in a task group: a group's cancel scope cancels again at every `await`, which kills the
clean-up code of ordinary asyncio agents (`finally: await session.close()`), and it waits without end for an agent that
swallows cancellation. Never `asyncio.wait_for`: on Python 3.11 it can swallow a cancellation.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import types
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeAlias, cast

import anyio
import anyio.lowlevel


class Task(Protocol):
    """A task that runs in the background."""

    @property
    def done(self) -> bool:
        """True once it has ended, whichever way."""
        ...

    def cancel(self) -> None:
        """Ask it to stop, as the event loop cancels tasks of its own."""
        ...

    async def wait(self) -> None:
        """Return once it has ended."""
        ...


Body: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


def spawn(body: Body, name: str, ended: Callable[[], object]) -> Task:
    """Start `body` beside the caller, with a copy of its context variables. `body` must not raise.

    `ended` is called when it is over, also when it was cancelled before it could begin.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _TrioTask(body, name, ended)
    return _AsyncioTask(loop, body, name, ended)


def spawn_at_once(
    body: Body,
    name: str,
    ended: Callable[[], object],
    context: contextvars.Context | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
) -> Task:
    """As `spawn`, but where the event loop can do so, the task runs up to its first wait before this returns.

    What never waits is over by then, without another turn of the loop. It is a task of its own all the same, with its own
    context and cancellation: `context`, if one is given. `loop` is the event loop, where it is known: to ask asyncio for
    it is a system call.
    """
    try:
        loop = loop or asyncio.get_running_loop()
    except RuntimeError:
        return _TrioTask(body, name, ended, context)
    return _AsyncioTask(loop, body, name, ended, at_once=True, context=context)


class Cancellable(Protocol):
    """Something that may happen, until it is cancelled."""

    def cancel(self) -> None:
        """Stop it, or see to it that it does not begin."""
        ...


def spawn_later(seconds: float, body: Body, name: str) -> Cancellable:
    """Start `body` beside the caller in so many seconds: a task only for what is still wanted then."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:

        async def later() -> None:
            await anyio.sleep(seconds)
            await body()

        return _TrioTask(later, name, lambda: None)
    return _LaterTask(loop, seconds, body, name)


def from_threads() -> Callable[[Callable[[], object]], object]:
    """A function that makes the running event loop call something soon, from any thread; RuntimeError once the loop is gone.

    Not `anyio.from_thread.run_sync`, which waits for the call: a loop that stops just then would keep the thread.
    """
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        trio_token: Any = anyio.lowlevel.current_token().native_token
        soon: Callable[[Callable[[], object]], object] = trio_token.run_sync_soon
        return soon


class Failure:
    """An exception on its way from the task or the thread that raised it to the task that waits for it.

    It is handed over once. Whoever kept it after that would be kept by it in turn, through the frames of its traceback,
    with all that belongs to the request: only the garbage collector could take them away.
    """

    __slots__ = ("_error",)

    def __init__(self) -> None:
        self._error: BaseException | None = None

    def keep(self, error: BaseException) -> None:
        """Take the exception. Only the first one counts."""
        if self._error is None:
            self._error = error

    def __bool__(self) -> bool:
        return self._error is not None

    def raise_if_any(self) -> None:
        """Raise the exception, if there is one."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # this frame is in the traceback too


def let_go(error: BaseException) -> None:
    """Take the traceback from an error that was told to whom it concerns, and logged where it is logged.

    Its frames hold the objects of the request, some of which hold the error: a cycle, with the whole history in it. So do
    those of the errors that it came of.
    """
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) not in seen:  # an agent may have made a ring of them
            seen.add(id(each))
            each.__traceback__ = None
            waiting += [came for came in (each.__cause__, each.__context__) if came is not None]


@asynccontextmanager
async def child_tasks() -> AsyncGenerator[ChildTasks]:
    """A block of tasks: leaving it cancels them, and waits for their end.

    Not a task group of anyio's: of each task that was cancelled, it leaves a reference cycle, with all that the task
    held.
    """
    children = ChildTasks()
    try:
        with children.scope:
            yield children
    finally:
        await children.stop()
    children.failure.raise_if_any()


class ChildTasks:
    """The tasks of one block. A task that fails ends the block, which then raises that.

    Attributes:
        scope: the block's own.
        failure: what a task has raised.
    """

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.failure = Failure()
        self._running: dict[anyio.CancelScope, Task] = {}

    def start(self, body: Body, name: str) -> None:
        """Start a task beside the block."""
        scope = anyio.CancelScope()
        if self.scope.cancel_called:
            scope.cancel()
        self._running[scope] = spawn(lambda: self._run(body, scope), name, lambda: self._running.pop(scope, None))

    def cancel(self) -> None:
        """End the block, and the tasks."""
        self.scope.cancel()
        for scope in list(self._running):
            scope.cancel()

    async def stop(self) -> None:
        """Cancel the tasks and wait for their end."""
        self.cancel()
        with anyio.CancelScope(shield=True):
            while self._running:
                await next(iter(self._running.values())).wait()

    async def _run(self, body: Body, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                await body()
        except Exception as error:
            self.failure.keep(error)
            self.cancel()


_running: set[asyncio.Task[None]] = set()
"""The loop itself holds tasks weakly."""

_forget = _running.discard


class _AsyncioTask:
    __slots__ = ("_ended", "_task")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        body: Body,
        name: str,
        ended: Callable[[], object],
        *,
        at_once: bool = False,
        context: contextvars.Context | None = None,
    ) -> None:
        over = False
        if at_once:
            self._task, over = _begun_task(loop, body(), name, context)
        else:
            self._task = loop.create_task(body(), name=name)
        if over:  # the loop need not tell
            ended()
        else:
            self._ended = ended
            _running.add(self._task)
            self._task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        _running.discard(task)
        ended, self._ended = self._ended, lambda: None  # it often belongs to who has the task: a cycle
        ended()

    @property
    def done(self) -> bool:
        return self._task.done()

    def cancel(self) -> None:
        self._task.cancel()

    async def wait(self) -> None:
        # Not `await self._task`: a waiter that is cancelled would cancel the task with it.
        await asyncio.wait([self._task])


class _LaterTask:
    __slots__ = ("_loop", "_task", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, body: Body, name: str) -> None:
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = loop.call_later(seconds, self._begin, body, name)

    def _begin(self, body: Body, name: str) -> None:
        # Nobody waits for its end, so this needs less than `spawn` does: each open stream has one.
        self._timer = None
        self._task = self._loop.create_task(body(), name=name)
        _running.add(self._task)
        self._task.add_done_callback(_forget)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()


class _TrioTask:
    def __init__(
        self, body: Body, name: str, ended: Callable[[], object], context: contextvars.Context | None = None
    ) -> None:
        import trio  # noqa: PLC0415  (only reached where trio runs; no dependency of ours)

        self._scope = trio.CancelScope()
        self._ended = anyio.Event()
        if context is None:
            context = contextvars.copy_context()  # else a system task has the context that trio was started in
        trio.lowlevel.spawn_system_task(self._run, body, ended, name=name, context=context)

    async def _run(self, body: Body, ended: Callable[[], object]) -> None:
        try:
            with self._scope:
                await body()
        finally:
            ended()
            self._ended.set()

    @property
    def done(self) -> bool:
        return self._ended.is_set()

    def cancel(self) -> None:
        self._scope.cancel()

    async def wait(self) -> None:
        await self._ended.wait()


# A task of asyncio that has made its first step when it is there: eager tasks, before and after Python 3.12.

Steps: TypeAlias = Generator[Any, Any, None]
"""What `types.coroutine` lets `yield from` take a coroutine for."""


if sys.version_info >= (3, 12):

    def _begun_task(
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, None],
        name: str,
        context: contextvars.Context | None = None,
    ) -> tuple[asyncio.Task[None], bool]:
        """A task that has run `work` up to its first wait, and whether it is over by that. `work` must not raise."""
        task = asyncio.Task(work, loop=loop, name=name, context=context, eager_start=True)
        return task, task.done()

else:

    def _begun_task(
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, None],
        name: str,
        context: contextvars.Context | None = None,
    ) -> tuple[asyncio.Task[None], bool]:
        """A task that has run `work` up to its first wait, and whether it is over by that. `work` must not raise."""
        context = contextvars.copy_context() if context is None else context
        begun = cast("Coroutine[Any, Any, None]", _begun(work))
        task = asyncio.Task(begun, loop=loop, name=name, context=context)
        around = asyncio.current_task(loop)
        # For those who make tasks of their own ("Extending asyncio" in Python's documentation): `asyncio.timeout` and
        # others remember which task they are in, and it has to be this one.
        if around is not None:
            asyncio.tasks._leave_task(loop, around)  # noqa: SLF001
        asyncio.tasks._enter_task(loop, task)  # noqa: SLF001
        over = False
        try:
            context.run(begun.send, None)
        except StopIteration:
            over = True
        finally:
            asyncio.tasks._leave_task(loop, task)  # noqa: SLF001
            if around is not None:
                asyncio.tasks._enter_task(loop, around)  # noqa: SLF001
        return task, over

    @types.coroutine
    def _begun(work: Coroutine[Any, Any, None]) -> Steps:
        """Makes the first step of `work`, and is left: its task is then given what that step waits for, and goes on."""
        try:
            waits_for = work.send(None)
            try:
                yield
            except BaseException as error:  # cancelled before the task's own first step
                waits_for = work.throw(error)
            while True:
                try:
                    yield waits_for
                except BaseException as error:
                    waits_for = work.throw(error)
                    continue
                yield from cast("Steps", work)  # from here on no step is made by hand
                return
        except StopIteration:
            return
