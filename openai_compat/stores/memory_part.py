"""The base of all parts of the memory store: its bounds, its clock, and the turns that have ended."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from .bounded_tables import Shares, Table, size_of_text
from .cursors import names_after, one_before
from .records import AgentState, Item, Key, Order

MAX_BYTES = 512 * 1024 * 1024
"""Default bound of all data, in bytes."""

MAX_BYTES_EACH = 128 * 1024 * 1024
"""Default bound of one principal's data, in bytes."""

MAX_GONE = 1000
"""Deleted things of each principal whose position is kept, so that pages can begin after them; the latest."""

MAX_GONE_STATES = 10_000
"""States that wait for their agents to forget them, the latest."""

MAX_ENDED = 10_000
"""Ended turns that are kept, the latest."""

PLACE = 2048
"""Most bytes that a kept position counts for."""

Value = TypeVar("Value")

ITEM = 256
"""Bytes that an item of a list counts for in addition to its text."""


@dataclass(frozen=True, slots=True)
class MemoryBounds:
    """How much a memory store keeps, and for how long; see MemoryStore."""

    max_items: int
    ttl: float
    clock: Callable[[], float]
    max_bytes: int
    max_bytes_per_principal: int


class MemoryPart:
    """A part of the store. All parts share the same bounds."""

    def __init__(self, bounds: MemoryBounds) -> None:
        self._max = bounds.max_items
        self._ttl = bounds.ttl
        self._clock = bounds.clock
        self._shares = Shares(bounds.max_bytes, min(bounds.max_bytes, bounds.max_bytes_per_principal))
        self._ended: OrderedDict[str, bool] = OrderedDict()
        # Positions have bounds of their own: deleting must not displace data.
        places = Shares(64 * MAX_GONE * PLACE, MAX_GONE * PLACE)
        self._before: Table[str, str] = Table(places, MAX_GONE)
        self._gone: dict[Key, AgentState] = {}

    @property
    def size(self) -> int:
        """Bytes of all data, without that of running turns."""
        return self._shares.size

    def size_of(self, principal: str) -> int:
        """Bytes of one principal's data, without that of running turns."""
        return self._shares.size_of(principal)

    def _pop(self, table: Table[str, Value], principal: str, name: str) -> Value | None:
        """Delete something from a table, and keep its position for pages."""
        names = [other for other, _ in table.of(principal)]
        found = table.pop(principal, name)
        if found is not None:
            self._before.pop(principal, name)
            self._before.rest(principal, name, one_before(name, names), size_of_text(name))
        return found

    def _listed(self, principal: str, names: Sequence[str], after: str | None, order: Order) -> Sequence[str] | None:
        """The names after `after`, which may have been deleted."""
        return names_after(after, names, order, lambda name: self._before.get(principal, name))

    def _end_turn(self, token: str | None, *, committed: bool) -> None:
        """Record how a turn ended. The first entry counts: a turn that has lost one lock has lost."""
        if token is not None:
            self._ended.setdefault(token, committed)
            if len(self._ended) > MAX_ENDED:
                self._ended.popitem(last=False)

    def _lose_state(self, principal: str, state: AgentState | None) -> None:
        """Note that nothing leads to an agent's state any more: its session may not be needed now."""
        if state is None:
            return
        gone = state if state.of == "gone" else state.gone()
        self._gone[Key(principal, gone.id)] = gone
        if len(self._gone) > MAX_GONE_STATES:
            del self._gone[next(iter(self._gone))]

    def _over(self, expires: float | None) -> bool:
        return expires is not None and expires <= self._clock()


def size_of_items(*items: Item) -> int:
    """Bytes of items in memory."""
    return sum([ITEM + size_of_text(item.id, item.body) for item in items])
