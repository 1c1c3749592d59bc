"""A task that outlives the call which started it, and is cancelled as its event loop's own tasks are.

Agents run in such a task, not in a task group: a group's cancel scope cancels again at every `await`, which kills the
clean-up code of ordinary asyncio agents (`finally: await session.close()`), and it waits without end for an agent that
swallows cancellation. Never `asyncio.wait_for`: on Python 3.11 it can swallow a cancellation.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar, Protocol, TypeAlias

import anyio


class Task(Protocol):
    """A running task."""

    @property
    def done(self) -> bool:
        """True once it has ended, whichever way."""
        ...

    def cancel(self) -> None:
        """Ask it to stop."""
        ...

    async def wait(self) -> None:
        """Return once it has ended."""
        ...


Body: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


def spawn(body: Body, name: str, ended: Callable[[], None]) -> Task:
    """Start `body` beside the caller, with a copy of its context variables. `body` must not raise.

    `ended` is called when it is over, also when it was cancelled before it could begin.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _TrioTask(body, name, ended)
    return _AsyncioTask(loop, body, name, ended)


async def to_the_end(work: Callable[[], Awaitable[None]], name: str) -> None:
    """Do `work` in a task of its own, so that no cancellation of the caller, of whatever kind, can meet it.

    For giving back what others wait for. Raises what `work` raises, unless the caller has left by then.
    """
    failures: list[Exception] = []

    async def body() -> None:
        try:
            await work()
        except Exception as error:
            failures.append(error)

    with anyio.CancelScope(shield=True):
        await spawn(body, name, lambda: None).wait()
    if failures:
        raise failures[0]


class _AsyncioTask:
    _running: ClassVar[set[asyncio.Task[None]]] = set()  # the loop itself holds tasks weakly

    def __init__(self, loop: asyncio.AbstractEventLoop, body: Body, name: str, ended: Callable[[], None]) -> None:
        self._ended = ended
        self._task = loop.create_task(body(), name=name)
        self._running.add(self._task)
        self._task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._ended()

    @property
    def done(self) -> bool:
        return self._task.done()

    def cancel(self) -> None:
        self._task.cancel()

    async def wait(self) -> None:
        await asyncio.wait([self._task])


class _TrioTask:
    def __init__(self, body: Body, name: str, ended: Callable[[], None]) -> None:
        import trio  # noqa: PLC0415  (only reached where trio runs; no dependency of ours)

        self._scope = trio.CancelScope()
        self._ended = anyio.Event()
        context = contextvars.copy_context()  # else a system task has the context that trio was started in
        trio.lowlevel.spawn_system_task(self._run, body, ended, name=name, context=context)

    async def _run(self, body: Body, ended: Callable[[], None]) -> None:
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
