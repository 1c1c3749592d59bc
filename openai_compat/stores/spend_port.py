"""The part of the store port that counts the tokens used by principals."""

from __future__ import annotations

from typing import Protocol

from .records import Key


class SpendStore(Protocol):
    """Tokens used by principals. `commit` adds them in the same transaction as the outcome of a turn."""

    async def spent(self, principal: str, period: str, unit: str) -> int:
        """Tokens used in a period; 0 if none were."""
        ...

    async def ahead(self, key: Key) -> float:
        """Seconds until a rate has paid off everything charged to it; 0 if it has caught up (GCRA)."""
        ...
