"""Several things at once, each in a task of its own, told in the order in which they end."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import anyio

from ..tasks import Body, Task, spawn

T = TypeVar("T")


async def as_completed(jobs: Sequence[Callable[[], Awaitable[T]]]) -> AsyncGenerator[T]:
    """What the jobs return, in the order in which they end; raises what one of them raises.

    However it is left, no job runs any more then. Not a task group: one must not be open across a `yield`.
    """
    running = _Running[T](jobs)
    try:
        while True:
            for result in await running.next():
                yield result
            if running.over:
                return
    finally:
        await running.stop()


class _Running(Generic[T]):
    def __init__(self, jobs: Sequence[Callable[[], Awaitable[T]]]) -> None:
        self._left = len(jobs)
        self._results: deque[T] = deque()
        self._errors: list[BaseException] = []
        self._changed = anyio.Event()
        self._tasks: list[Task] = [spawn(self._body(job), "tool call", self._ended) for job in jobs]

    @property
    def over(self) -> bool:
        return not self._left and not self._results

    async def next(self) -> list[T]:
        """The results since the last time; at least one, unless all jobs have ended."""
        while not self._results and self._left and not self._errors:
            await self._changed.wait()
            self._changed = anyio.Event()
        if self._errors:
            raise self._errors[0]
        results = list(self._results)
        self._results.clear()
        return results

    async def stop(self) -> None:
        for task in self._tasks:
            if not task.done:
                task.cancel()
        with anyio.CancelScope(shield=True):
            for task in self._tasks:
                await task.wait()

    def _body(self, job: Callable[[], Awaitable[T]]) -> Body:
        async def body() -> None:
            try:
                self._results.append(await job())
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # a task that raises SystemExit would end the server
                self._errors.append(error)

        return body

    def _ended(self) -> None:
        self._left -= 1
        self._changed.set()
