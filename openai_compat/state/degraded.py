"""Asks the store for what a server can do without, so that agents that need no store run on while it is away."""

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
"""Seconds for which a store that did not answer is not asked again."""

Answer = TypeVar("Answer")

logger = logging.getLogger("openai_compat")


async def with_timeout(question: Callable[[], Awaitable[Answer]], seconds: float) -> Answer:
    """The answer to a question. Raises Unavailable if there is none within so many seconds.

    The question itself goes on then, and when the caller is cancelled: engines bring what they have begun to an end.
    """
    answers: list[Answer] = []
    failure = Failure()

    async def ask() -> None:
        try:
            answers.append(await question())
        except Exception as error:
            failure.keep(error)

    with anyio.move_on_after(seconds):
        await spawn(ask, "question to the store", lambda: None).wait()
    failure.raise_if_any()
    if not answers:
        raise Unavailable("The store does not answer.", code="store_unavailable")
    return answers[0]


async def give_back(work: Callable[[], Awaitable[object]], what: str) -> None:
    """Give back what others wait for, also where the caller is cancelled. Raises nothing.

    The caller waits a moment only: a client that is to hear of a failure is not kept waiting by a store that does not
    answer. The work goes on by itself, and what cannot be given back is free again when its lease is over.
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
    """Asks one kind of question, and logs when the answers stop and when they come again.

    `meanwhile` says what happens without them; `patience` and `pause` are in seconds.
    """

    def __init__(self, meanwhile: str, patience: float = PATIENCE, pause: float = PAUSE) -> None:
        self._meanwhile = meanwhile
        self._patience = patience
        self._pause = pause
        self._away_until: float | None = None

    async def ask(self, question: Callable[[], Awaitable[Answer]]) -> Answer | None:
        """The store's answer, None while it has none."""
        if self._away_until is not None and time.monotonic() < self._away_until:
            return None
        try:
            answer = await with_timeout(question, self._patience)
        except Unavailable:
            self._failed()
            return None
        self._answered()
        return answer

    def _answered(self) -> None:
        if self._away_until is not None:
            self._away_until = None
            logger.info("the store answers again")

    def _failed(self) -> None:
        if self._away_until is None:
            logger.warning("the store does not answer: %s", self._meanwhile)
        self._away_until = time.monotonic() + self._pause
