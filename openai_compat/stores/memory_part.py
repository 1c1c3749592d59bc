"""What all parts of the memory store share: its bounds, its clock, and how turns have ended."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from .cursors import names_after, one_before
from .port import Item, Order
from .shares import Shares, Table, size_of_text

MAX_BYTES = 512 * 1024 * 1024
"""Bytes of all that is kept."""

MAX_BYTES_EACH = 128 * 1024 * 1024
"""Bytes of what is kept for one principal."""

MAX_GONE = 1000
"""Things that are gone from a list of which is remembered where they stood: the latest of each principal."""

MAX_ENDED = 10_000
"""Turns of which is remembered how they ended: the latest."""

PLACE = 2048
"""What one of these may count for, in bytes."""

Value = TypeVar("Value")

ITEM = 256
"""What one item of a list counts for beside its text, in bytes."""


class MemoryPart:
    """A part of the store. All parts divide the same shares, whichever is made first."""

    def __init__(
        self,
        max_items: int = 1000,
        ttl: float = 1800,
        clock: Callable[[], float] = time.time,
        *,
        max_bytes: int = MAX_BYTES,
        max_bytes_per_principal: int = MAX_BYTES_EACH,
    ) -> None:
        self._max = max_items
        self._ttl = ttl
        self._clock = clock
        self._shares = Shares(max_bytes, min(max_bytes, max_bytes_per_principal))
        self._ended: OrderedDict[str, bool] = OrderedDict()
        places = Shares(64 * MAX_GONE * PLACE, MAX_GONE * PLACE)
        self._before: Table[str, str] = Table(places, MAX_GONE)
        self._make_tables()

    @property
    def size(self) -> int:
        """Bytes of all that rests here."""
        return self._shares.size

    def size_of(self, principal: str) -> int:
        """Bytes of what rests here for one principal."""
        return self._shares.size_of(principal)

    def _make_tables(self) -> None:
        """Each part makes its own."""

    def _pop(self, table: Table[str, Value], principal: str, name: str) -> Value | None:
        """Take something out of a table, and remember where it stood."""
        names = [other for other, _ in table.of(principal)]
        found = table.pop(principal, name)
        if found is not None:
            self._before.pop(principal, name)
            self._before.rest(principal, name, one_before(name, names), size_of_text(name))
        return found

    def _listed(self, principal: str, names: Sequence[str], after: str | None, order: Order) -> Sequence[str] | None:
        """Those of `names` after one that is there or gone."""
        return names_after(after, names, order, partial(self._before.get, principal))

    def _end_turn(self, token: str | None, *, committed: bool) -> None:
        """A turn that has lost one thing has lost; one that was committed may ask again whether it was."""
        if token is not None:
            self._ended.setdefault(token, committed)
            if len(self._ended) > MAX_ENDED:
                self._ended.popitem(last=False)

    def _over(self, expires: float | None) -> bool:
        return expires is not None and expires <= self._clock()


def size_of_items(*items: Item) -> int:
    """Bytes of items in memory."""
    return sum([ITEM + size_of_text(item.id, item.body) for item in items])
