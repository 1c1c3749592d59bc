"""Calls to a store that may be unavailable: with a timeout, in the background, or with a fallback if the store is optional."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from ..aio.background import Failure, Task, spawn
from ..errors import Unavailable

PATIENCE = 1.0
"""Timeout for the store's answer, in seconds."""
PAUSE = 5.0
"""Seconds for which a store that did not answer is not called."""

Answer = TypeVar("Answer")

logger = logging.getLogger("openai_compat")


async def with_timeout(operation: Callable[[], Awaitable[Answer]], seconds: float) -> Answer:
    """Return the store's answer; raise Unavailable if there is none within `seconds` seconds.

    The operation continues after the timeout, and if the caller is cancelled.
    """
    answers: list[Answer] = []
    failure = Failure()

    async def run() -> None:
        try:
            answers.append(await operation())
        except Exception as error:
            failure.keep(error)

    # A separate task: an engine would let its transaction end before it could be cancelled.
    with anyio.move_on_after(seconds):
        await spawn(run, "call to the store", lambda: None).wait()
    failure.raise_if_any()
    if not answers:
        raise Unavailable("The store does not answer.", code="store_unavailable")
    return answers[0]


class LateWork:
    """One server's store operations that continue in the background after the client has its answer.

    The server waits for them at shutdown.
    """

    def __init__(self) -> None:
        self._running: list[Task] = []
        self._closed = False

    def add(self, task: Task) -> None:
        """Take over a task that no caller waits for any more."""
        self._running = [other for other in self._running if not other.done]
        self._running.append(task)

    async def run_shielded(self, work: Callable[[], Awaitable[object]], what: str) -> None:
        """Run work that others wait for, such as the release of a lock, even if the caller is cancelled. Raises nothing.

        The caller waits at most PATIENCE seconds, so that a hanging store does not delay the client's error. The work continues
        in the background; if it fails, the lease expires.
        """

        async def body() -> None:
            try:
                await work()
            except Unavailable as error:
                logger.info("%s: not now: %s", what, error.code)
            except Exception as error:
                logger.error("%s: unexpected error", what, exc_info=error)

        if self._closed:
            return
        task = spawn(body, what, lambda: None)
        with anyio.move_on_after(PATIENCE, shield=True):
            await task.wait()
        if not task.done:
            self.add(task)

    async def close(self, seconds: float) -> None:
        """Wait for all operations, at most `seconds` seconds."""
        with anyio.move_on_after(seconds):
            while self._running:
                await self._running[0].wait()
                self._running = [task for task in self._running if not task.done]
        # The event loop ends soon, and cancels tasks that still run: they must not start anything new in the store.
        self._closed = bool(self._running)


class StoreFallback:
    """Calls the store for features that work without it, and logs when the store stops answering and when it is back.

    `meanwhile` is logged as the consequence of an outage. A call takes at most `patience` seconds; after a failed call, none
    is made for `pause` seconds.
    """

    def __init__(self, meanwhile: str, patience: float = PATIENCE, pause: float = PAUSE) -> None:
        self._meanwhile = meanwhile
        self._patience = patience
        self._pause = pause
        self._away_until: float | None = None

    async def call(self, operation: Callable[[], Awaitable[Answer]]) -> Answer | None:
        """Return the store's answer, or None while the store is away."""
        # Otherwise, each call during an outage would wait for the whole timeout.
        if self._away_until is not None and time.monotonic() < self._away_until:
            return None
        try:
            answer = await with_timeout(operation, self._patience)
        except Unavailable:
            if self._away_until is None:
                logger.warning("the store does not answer: %s", self._meanwhile)
            self._away_until = time.monotonic() + self._pause
            return None
        if self._away_until is not None:
            self._away_until = None
            logger.info("the store answers again")
        return answer
