"""Tokens used by principals, in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from .bounded_tables import MemoryBounds, MemoryPart
from .records import Spend

MAX_SPENDS = 100_000
"""Maximum number of stored periods of principals; the one unused for longest is dropped."""


class MemorySpending(MemoryPart):
    """SpendStore in a dictionary, which ends with the process."""

    def __init__(self, bounds: MemoryBounds) -> None:
        super().__init__(bounds)
        self._spent: OrderedDict[tuple[str, str, str], int] = OrderedDict()

    def _add_spends(self, principal: str, spends: Sequence[Spend]) -> None:
        for spend in spends:
            key = (principal, spend.period, spend.unit)
            self._spent[key] = self._spent.get(key, 0) + spend.tokens
            self._spent.move_to_end(key)
        while len(self._spent) > MAX_SPENDS:
            self._spent.popitem(last=False)

    async def spent(self, principal: str, period: str, unit: str) -> int:
        return self._spent.get((principal, period, unit), 0)
