"""The part of the store port for the tokens that principals use."""

from __future__ import annotations

from typing import Protocol

from .records import Key


class SpendStore(Protocol):
    """Tokens that principals have spent. They are added by `commit`: with the outcome of a turn, or not at all."""

    async def spent(self, principal: str, period: str, unit: str) -> int:
        """What was spent in a period; 0 if nothing was."""
        ...

    async def ahead(self, key: Key) -> float:
        """Seconds that a rate needs to allow for all that was charged to it; 0 if it has caught up (GCRA)."""
        ...
