"""Asks the store for what a server can do without, so that agents that need no store run on while it is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from .errors import Unavailable

PATIENCE = 1.0
"""Seconds for the store's answer."""
PAUSE = 5.0
"""Seconds for which a store that did not answer is not asked again."""

Answer = TypeVar("Answer")

logger = logging.getLogger("openai_compat")


class FailOpen:
    """Asks one kind of question, and logs when the answers stop and when they come again.

    `meanwhile` says what happens without them.
    """

    def __init__(self, meanwhile: str) -> None:
        self._meanwhile = meanwhile
        self._away_until: float | None = None

    async def ask(self, question: Callable[[], Awaitable[Answer]]) -> Answer | None:
        """The store's answer, None while it has none."""
        if self._away_until is not None and time.monotonic() < self._away_until:
            return None
        try:
            with anyio.move_on_after(PATIENCE):
                answer = await question()
                self._answered()
                return answer
        except Unavailable:
            pass
        self._failed()
        return None

    def _answered(self) -> None:
        if self._away_until is not None:
            self._away_until = None
            logger.info("the store answers again")

    def _failed(self) -> None:
        if self._away_until is None:
            logger.warning("the store does not answer: %s", self._meanwhile)
        self._away_until = time.monotonic() + PAUSE
