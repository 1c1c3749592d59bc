"""Webhook notices to other servers, in memory."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .bounded_tables import MemoryBounds, MemoryPart
from .records import WebhookNotice

# A receiver that is down for a day must not fill the memory; a database has room for notices, and a sweep.
MAX_NOTICES = 10_000
"""Maximum number of waiting notices; beyond it, the oldest are dropped."""

logger = logging.getLogger("openai_compat")


@dataclass(slots=True)
class WaitingNotice:
    """A notice, the time when it is due, and the token of its taker."""

    notice: WebhookNotice
    due: float
    token: str | None = None


class MemoryOutbox(MemoryPart):
    """OutboxStore in a dictionary. A taken notice stays taken: its taker lives as long as this store."""

    def __init__(self, bounds: MemoryBounds) -> None:
        super().__init__(bounds)
        self._notices: dict[int, WaitingNotice] = {}
        self._last_number = 0

    def _write_notices(self, notices: Sequence[WebhookNotice]) -> None:
        for notice in notices:
            self._last_number += 1
            self._notices[self._last_number] = WaitingNotice(replace(notice, number=self._last_number), self._clock())
        while len(self._notices) > MAX_NOTICES:
            dropped = self._notices.pop(next(iter(self._notices)))
            logger.warning("webhook %s is dropped: too many wait for their delivery", dropped.notice.id)

    async def take_notices(
        self, target: str, token: str, limit: int, hold: float, ahead: float = 0.0
    ) -> Sequence[WebhookNotice]:
        before = self._clock() + ahead
        waiting = [one for one in self._notices.values() if one.token is None and one.notice.target == target]
        due = sorted([one for one in waiting if one.due <= before], key=lambda one: (one.due, one.notice.number))
        for one in due[:limit]:
            one.token = token
        return [one.notice for one in due[:limit]]

    async def defer_notice(self, number: int, token: str, seconds: float) -> None:
        waiting = self._notices.get(number)
        if waiting is not None and waiting.token == token:
            waiting.notice = replace(waiting.notice, attempt=waiting.notice.attempt + 1)
            waiting.due, waiting.token = self._clock() + seconds, None

    async def end_notice(self, number: int) -> None:
        self._notices.pop(number, None)

    async def targets(self) -> Mapping[str, int]:
        return Counter([one.notice.target for one in self._notices.values()])
