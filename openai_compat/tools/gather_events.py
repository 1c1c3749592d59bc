"""Runs several jobs concurrently, and merges their events into one sequence."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

import anyio

from ..aio.background import Body, Failure, Task, spawn

T = TypeVar("T")


Job: TypeAlias = Callable[[Callable[[T], None]], Awaitable[None]]
"""An async function that may emit events by calling its argument."""


async def merge_events(jobs: Sequence[Job[T]]) -> AsyncGenerator[T]:
    """Yield the events of all jobs in the order of arrival; raise the exception of a failed job.

    No job runs any more once the generator is left. Not a task group, which must not be open across a `yield`.
    """
    running = _RunningJobs[T](jobs)
    try:
        while True:
            for item in await running.next_events():
                yield item
            if running.over:
                return
    finally:
        await running.stop()


class _RunningJobs(Generic[T]):
    def __init__(self, jobs: Sequence[Job[T]]) -> None:
        self._left = len(jobs)
        self._events: list[T] = []
        self._failure = Failure()
        self._changed = anyio.Event()
        self._tasks: list[Task] = [spawn(self._body(job), "tool call", self._on_job_ended) for job in jobs]

    @property
    def over(self) -> bool:
        return not self._left and not self._events

    async def next_events(self) -> list[T]:
        """Return the events since the last call; at least one, unless all jobs have ended."""
        while not self._events and self._left and not self._failure:
            await self._changed.wait()
            self._changed = anyio.Event()
        self._failure.raise_if_any()
        events, self._events = self._events, []
        return events

    async def stop(self) -> None:
        for task in self._tasks:
            if not task.done:
                task.cancel()
        # No call may outlive the turn: its sandbox, files and connections end with it.
        with anyio.CancelScope(shield=True):
            for task in self._tasks:
                await task.wait()

    def _body(self, job: Job[T]) -> Body:
        def emit(item: T) -> None:
            self._events.append(item)
            self._changed.set()

        async def body() -> None:
            try:
                await job(emit)
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # SystemExit raised in a task would end the server
                self._failure.keep(error)

        return body

    def _on_job_ended(self) -> None:
        self._left -= 1
        self._changed.set()
