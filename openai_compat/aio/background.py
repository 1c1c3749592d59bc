"""A task that outlives the call that started it, and is cancelled the way its event loop cancels tasks.

Agents run in such a task, not in a task group: the cancel scope of a task group cancels again at every `await`, which
breaks the clean-up code of ordinary asyncio agents (`finally: await session.close()`), and the group waits forever for
an agent that swallows cancellation. Never use `asyncio.wait_for`: on Python 3.11 it can swallow a cancellation.
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
        """True once the task has ended, in whichever way."""
        ...

    def cancel(self) -> None:
        """Cancel the task, in the event loop's own way."""
        ...

    async def wait(self) -> None:
        """Return once the task has ended."""
        ...


Body: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


def spawn(body: Body, name: str, ended: Callable[[], object]) -> Task:
    """Start `body` as a background task, with a copy of the caller's context variables. `body` must not raise.

    `ended` is called when the task is over, even if it was cancelled before it could start.
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
    """Like `spawn`, but if the event loop supports it, the task runs up to its first wait before this returns.

    A body that never waits is done by then, without another iteration of the loop. It is still a separate task, with its
    own cancellation and context (`context`, if given). `loop` is the event loop, if known: asking asyncio for it costs a
    system call.
    """
    try:
        loop = loop or asyncio.get_running_loop()
    except RuntimeError:
        return _TrioTask(body, name, ended, context)
    return _AsyncioTask(loop, body, name, ended, at_once=True, context=context)


class Cancellable(Protocol):
    """Work that may still happen, until it is cancelled."""

    def cancel(self) -> None:
        """Stop the work, or keep it from starting."""
        ...


def spawn_later(seconds: float, body: Body, name: str) -> Cancellable:
    """Start `body` as a background task after `seconds`. Until then it costs a timer, not a task (on asyncio)."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:

        async def later() -> None:
            await anyio.sleep(seconds)
            await body()

        return _TrioTask(later, name, lambda: None)
    return _LaterTask(loop, seconds, body, name)


def threadsafe_scheduler() -> Callable[[Callable[[], object]], object]:
    """Return a thread-safe function that schedules a call in the running event loop; RuntimeError once the loop is closed.

    Not `anyio.from_thread.run_sync`, which waits for the call: a loop that stops at that moment would block the thread.
    """
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        trio_token: Any = anyio.lowlevel.current_token().native_token
        soon: Callable[[Callable[[], object]], object] = trio_token.run_sync_soon
        return soon


class Failure:
    """Carries an exception from the task or thread that raised it to the task that waits for it.

    The exception is handed over once and then dropped. Keeping it would create a reference cycle through the frames of its
    traceback, with all objects of the request, that only the garbage collector can free.
    """

    __slots__ = ("_error",)

    def __init__(self) -> None:
        self._error: BaseException | None = None

    def keep(self, error: BaseException) -> None:
        """Store the exception. Only the first one counts."""
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
                del error  # the traceback also refers to this frame


def drop_tracebacks(error: BaseException) -> None:
    """Remove the traceback of an error that was already reported or logged.

    The frames hold the objects of the request, some of which hold the error: a cycle that contains the whole history. The
    same goes for the errors that caused it.
    """
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) not in seen:  # an agent may have chained errors in a ring
            seen.add(id(each))
            each.__traceback__ = None
            waiting += [came for came in (each.__cause__, each.__context__) if came is not None]


@asynccontextmanager
async def child_tasks() -> AsyncGenerator[ChildTasks]:
    """Run a block with child tasks: leaving the block cancels them, and waits for their end.

    Not anyio's task group, which leaves a reference cycle for each cancelled task, with everything that the task held.
    """
    children = ChildTasks()
    try:
        with children.scope:
            yield children
    finally:
        await children.stop()
    children.failure.raise_if_any()


class ChildTasks:
    """The tasks of one block. A task that fails ends the block, which then raises the exception.

    Attributes:
        scope: cancel scope of the block.
        failure: exception of a task.
    """

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.failure = Failure()
        self._running: dict[anyio.CancelScope, Task] = {}

    def start(self, body: Body, name: str) -> None:
        """Start a child task."""
        scope = anyio.CancelScope()
        if self.scope.cancel_called:
            scope.cancel()
        self._running[scope] = spawn(lambda: self._run(body, scope), name, lambda: self._running.pop(scope, None))

    def cancel(self) -> None:
        """Cancel the block and its tasks."""
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
"""Strong references, since the loop itself only holds weak ones."""

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
            self._task, over = _eager_task(loop, body(), name, context)
        else:
            self._task = loop.create_task(body(), name=name)
        if over:  # the task is done, so no callback is needed
            ended()
        else:
            self._ended = ended
            _running.add(self._task)
            self._task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        _running.discard(task)
        ended, self._ended = self._ended, lambda: None  # `ended` often belongs to the owner of the task: a cycle
        ended()

    @property
    def done(self) -> bool:
        return self._task.done()

    def cancel(self) -> None:
        self._task.cancel()

    async def wait(self) -> None:
        # Not `await self._task`: cancelling the waiter would cancel the task too.
        await asyncio.wait([self._task])


class _LaterTask:
    __slots__ = ("_loop", "_task", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, body: Body, name: str) -> None:
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = loop.call_later(seconds, self._start, body, name)

    def _start(self, body: Body, name: str) -> None:
        # No one waits for its end, so this is cheaper than `spawn`: each open stream has one.
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
            context = contextvars.copy_context()  # otherwise a system task gets the context in which trio was started
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


# An asyncio task that has run its first step when it is returned: eager tasks, on Python 3.12 and before.

Steps: TypeAlias = Generator[Any, Any, None]
"""The generator type that `types.coroutine` allows in `yield from`."""


if sys.version_info >= (3, 12):

    def _eager_task(
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, None],
        name: str,
        context: contextvars.Context | None = None,
    ) -> tuple[asyncio.Task[None], bool]:
        """Return a task that has run `work` up to its first wait, and True if it is done already. `work` must not raise."""
        task = asyncio.Task(work, loop=loop, name=name, context=context, eager_start=True)
        return task, task.done()

else:

    def _eager_task(
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, None],
        name: str,
        context: contextvars.Context | None = None,
    ) -> tuple[asyncio.Task[None], bool]:
        """Return a task that has run `work` up to its first wait, and True if it is done already. `work` must not raise."""
        context = contextvars.copy_context() if context is None else context
        coroutine = cast("Coroutine[Any, Any, None]", _run_first_step(work))
        task = asyncio.Task(coroutine, loop=loop, name=name, context=context)
        around = asyncio.current_task(loop)
        # The official way for custom tasks ("Extending asyncio" in Python's documentation): `asyncio.timeout` and others
        # remember their current task, which must be this one.
        if around is not None:
            asyncio.tasks._leave_task(loop, around)  # noqa: SLF001
        asyncio.tasks._enter_task(loop, task)  # noqa: SLF001
        over = False
        try:
            context.run(coroutine.send, None)
        except StopIteration:
            over = True
        finally:
            asyncio.tasks._leave_task(loop, task)  # noqa: SLF001
            if around is not None:
                asyncio.tasks._enter_task(loop, around)  # noqa: SLF001
        return task, over

    @types.coroutine
    def _run_first_step(work: Coroutine[Any, Any, None]) -> Steps:
        """Run the first step of `work`, then pause; the task later receives what that step waits for, and continues."""
        try:
            waits_for = work.send(None)
            try:
                yield
            except BaseException as error:  # cancelled before the task ran its own first step
                waits_for = work.throw(error)
            while True:
                try:
                    yield waits_for
                except BaseException as error:
                    waits_for = work.throw(error)
                    continue
                yield from cast("Steps", work)  # from here on the task drives the coroutine
                return
        except StopIteration:
            return
