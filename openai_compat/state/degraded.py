"""Calls to a store that may be away: with a timeout, in the background, or with a fallback where the server can do without."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from ..aio.background import Failure, spawn
from ..errors import Unavailable

PATIENCE = 1.0
"""Seconds for the store's answer."""
PAUSE = 5.0
"""Seconds for which a store that did not answer is left alone."""

Answer = TypeVar("Answer")

logger = logging.getLogger("openai_compat")


async def with_timeout(operation: Callable[[], Awaitable[Answer]], seconds: float) -> Answer:
    """Return the store's answer; raise Unavailable if there is none within `seconds`.

    The operation goes on after the timeout, and if the caller is cancelled.
    """
    answers: list[Answer] = []
    failure = Failure()

    async def run() -> None:
        try:
            answers.append(await operation())
        except Exception as error:
            failure.keep(error)

    # A task of its own: an engine would wait for its transaction to end before it let itself be cancelled.
    with anyio.move_on_after(seconds):
        await spawn(run, "call to the store", lambda: None).wait()
    failure.raise_if_any()
    if not answers:
        raise Unavailable("The store does not answer.", code="store_unavailable")
    return answers[0]


async def give_back(work: Callable[[], Awaitable[object]], what: str) -> None:
    """Release what others wait for, such as a lock; also if the caller is cancelled. Raises nothing.

    The caller waits for PATIENCE at most, so that a store that hangs does not delay the client's error. The work goes
    on in the background; if it fails, the lease expires.
    """

    async def body() -> None:
        try:
            await work()
        except Unavailable as error:
            logger.info("%s: not now: %s", what, error.code)
        except Exception as error:
            logger.error("%s: unexpected error", what, exc_info=error)

    with anyio.move_on_after(PATIENCE, shield=True):
        await spawn(body, what, lambda: None).wait()


class StoreFallback:
    """Calls the store for what a server can do without, and logs when the store stops answering and when it is back.

    `meanwhile` tells the log what happens without it. A call takes `patience` seconds at most; after one that failed
    there are none for `pause` seconds.
    """

    def __init__(self, meanwhile: str, patience: float = PATIENCE, pause: float = PAUSE) -> None:
        self._meanwhile = meanwhile
        self._patience = patience
        self._pause = pause
        self._away_until: float | None = None

    async def call(self, operation: Callable[[], Awaitable[Answer]]) -> Answer | None:
        """Return the store's answer, or None while the store is away."""
        # While it is away, each call would wait for all of `patience`.
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
