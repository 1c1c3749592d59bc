"""In-memory tables, bounded in bytes per principal and in total, so that no principal can displace the data of others.

Only values at rest are counted and can be dropped. The number of turns bounds the values that running turns hold.
The base class of all parts of the memory store is here too: their tables share the same bounds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from .cursors import name_before, names_after
from .records import AgentState, Item, Key, Order

Id = TypeVar("Id", bound=Hashable)
Value = TypeVar("Value")

OVERHEAD = 1024
"""Bytes counted for a value in addition to its text."""

VALUE_SIZE = 64
"""Bytes counted for a number, list or object."""

ITEM_OVERHEAD = 256
"""Bytes counted for an item of a list in addition to its text."""

MAX_BYTES = 512 * 1024 * 1024
"""Default limit of all data in a memory store, in bytes."""

MAX_BYTES_PER_PRINCIPAL = 128 * 1024 * 1024
"""Default limit of one principal's data in a memory store, in bytes."""

MAX_DELETED = 1000
"""Deleted entries per principal whose position is stored, so that pages can begin after them; the latest ones."""

MAX_GONE_STATES = 10_000
"""States that wait for their agents to forget them; only the latest are stored."""

MAX_ENDED_TURNS = 10_000
"""Ended turns that are remembered; only the latest are stored."""

POSITION_SIZE = 2048
"""Maximum number of bytes counted for a stored position."""


def size_of_text(*texts: str | None) -> int:
    """Bytes of texts in memory, without scanning them: exact for ASCII, otherwise an upper bound."""
    return sum([len(text) if text.isascii() else 4 * len(text) for text in texts if text is not None])


def size_of_items(*items: Item) -> int:
    """Bytes of items in memory."""
    return sum([ITEM_OVERHEAD + size_of_text(item.id, item.body) for item in items])


def size_of_value(value: object) -> int:
    """Rough size of a JSON value in memory, in bytes."""
    size, left = 0, [value]  # not recursive, since JSON can be nested deeply
    while left:
        part = left.pop()
        if isinstance(part, str):
            size += len(part) if part.isascii() else 4 * len(part)
        elif isinstance(part, bytes):
            size += len(part)
        else:
            size += VALUE_SIZE
            if isinstance(part, dict):
                left += cast("dict[str, object]", part).values()
            elif isinstance(part, (list, tuple)):
                left += cast("Sequence[object]", part)
    return size


# By identity: rows are keys, and two of them may hold equal values.
@dataclass(slots=True, eq=False)
class _Row(Generic[Id, Value]):
    table: Table[Id, Value]
    principal: str
    id: Id
    value: Value
    size: int
    touched: float


class Shares:
    """A memory limit that tables share: `each` bytes for one principal, `total` bytes for all.

    Above `each`, the principal's least recently used value is dropped; above `total`, that of the principal with the most
    data. The latest value stays, so each limit may be exceeded by one value.
    """

    def __init__(self, total: int, each: int) -> None:
        if not 0 < each <= total:
            raise ValueError("what each may hold is more than nothing, and no more than all may")
        self.total = total
        self.each = each
        self.size = 0
        self._rows: dict[str, dict[_Row[Any, Any], None]] = {}  # in order of last use
        self._sizes: dict[str, int] = {}

    def size_of(self, principal: str) -> int:
        """Bytes that a principal holds."""
        return self._sizes.get(principal, 0)

    def add(self, row: _Row[Any, Any]) -> None:
        """Count a row, as the most recently used."""
        self._rows.setdefault(row.principal, {})[row] = None
        self._sizes[row.principal] = self.size_of(row.principal) + row.size
        self.size += row.size

    def remove(self, row: _Row[Any, Any]) -> None:
        """Stop counting a row that changes or leaves its table."""
        rows = self._rows[row.principal]
        del rows[row]
        self._sizes[row.principal] -= row.size
        self.size -= row.size
        if not rows:
            del self._rows[row.principal], self._sizes[row.principal]

    def enforce_limits(self, latest: _Row[Any, Any]) -> None:
        """Drop rows until the limits hold again, after `latest` was added."""
        while self.size_of(latest.principal) > self.each and self._drop(latest.principal, latest):
            pass
        while self.size > self.total:
            # The principal with the most data loses some, so that a large principal cannot displace many small ones.
            largest = max(self._sizes, key=lambda principal: (self._sizes[principal], principal == latest.principal))
            if not self._drop(largest, latest):
                return

    def _drop(self, principal: str, latest: _Row[Any, Any]) -> bool:
        oldest = next(iter(self._rows[principal]))
        if oldest is latest:
            return False
        oldest.table.pop(oldest.principal, oldest.id)  # which calls `remove`
        return True


class Table(Generic[Id, Value]):
    """Values by principal and id: at most `most` per principal, and as many bytes as `shares` allows.

    `dropped` is called with each value that leaves the table, for any reason.
    """

    def __init__(self, shares: Shares, most: int, dropped: Callable[[str, Id, Value], None] | None = None) -> None:
        self._shares = shares
        self._most = most
        self._on_drop = dropped
        self._resting: dict[str, dict[Id, _Row[Id, Value]]] = {}
        self._held: dict[str, dict[Id, Value]] = {}

    def __len__(self) -> int:
        held = sum([len(ids) for ids in self._held.values()])
        return held + sum([len(rows) for rows in self._resting.values()])

    def get(self, principal: str, identifier: Id) -> Value | None:
        """A value, held or at rest; None if it does not exist."""
        row = self._row(principal, identifier)
        return self._held.get(principal, {}).get(identifier) if row is None else row.value

    def entries(self, principal: str) -> list[tuple[Id, Value]]:
        """A principal's values: those held by running turns, then those at rest, the latest last."""
        resting = [(row.id, row.value) for row in self._resting.get(principal, {}).values()]
        return [*self._held.get(principal, {}).items(), *resting]

    def values_at_rest(self) -> list[tuple[str, Id, Value]]:
        """All values at rest, with their principals and ids."""
        return [(row.principal, row.id, row.value) for rows in self._resting.values() for row in rows.values()]

    def all_values(self) -> list[tuple[str, Value]]:
        """All values, held or at rest, with their principals."""
        held = [(principal, value) for principal, ids in self._held.items() for value in ids.values()]
        return [*held, *[(principal, value) for principal, _, value in self.values_at_rest()]]

    def held_values(self) -> list[Value]:
        """All values held by running turns."""
        return [value for ids in self._held.values() for value in ids.values()]

    def hold(self, principal: str, identifier: Id, value: Value) -> None:
        """Insert a value that a running turn holds, until `put`."""
        self._remove_value(principal, identifier)
        self._held.setdefault(principal, {})[identifier] = value
        self._drop_surplus(principal, 0)

    def put(self, principal: str, identifier: Id, value: Value, size: int, touched: float = 0.0) -> None:
        """Insert or change a value at rest, of `size` bytes. A changed value keeps its place in the order."""
        row = self._row(principal, identifier)
        if row is None:
            # A running turn may have held it until now.
            self._remove_value(principal, identifier)
            row = _Row(self, principal, identifier, value, 0, touched)
            self._resting.setdefault(principal, {})[identifier] = row
        else:
            self._shares.remove(row)
        row.value, row.size, row.touched = value, size + OVERHEAD, touched
        self._shares.add(row)
        self._drop_surplus(principal, 1)
        self._shares.enforce_limits(row)

    def use(self, principal: str, identifier: Id, touched: float) -> None:
        """Make a value at rest the most recently used."""
        row = self._row(principal, identifier)
        if row is not None:
            row.touched = touched
            rows = self._resting[principal]  # dicts keep the order of insertion: the oldest is first
            rows[identifier] = rows.pop(identifier)
            self._shares.remove(row)
            self._shares.add(row)

    def pop(self, principal: str, identifier: Id) -> Value | None:
        """Remove a value and return it; None if it does not exist."""
        value = self._remove_value(principal, identifier)
        if value is not None and self._on_drop is not None:
            self._on_drop(principal, identifier, value)
        return value

    def pop_unused(self, since: float, principal: str | None = None) -> int:
        """Remove values at rest that were not used after `since`, of one principal or of all. Return their number."""
        popped = 0
        for owner in list(self._resting) if principal is None else [principal]:
            rows = self._resting.get(owner, {})
            while rows and (row := next(iter(rows.values()))).touched <= since:
                self.pop(owner, row.id)
                popped += 1
        return popped

    def _row(self, principal: str, identifier: Id) -> _Row[Id, Value] | None:
        return self._resting.get(principal, {}).get(identifier)

    def _remove_value(self, principal: str, identifier: Id) -> Value | None:
        row = self._row(principal, identifier)
        if row is None:
            held: Value | None = _remove(self._held, principal, identifier)
            return held
        self._shares.remove(row)
        _remove(self._resting, principal, identifier)
        return row.value

    def _drop_surplus(self, principal: str, latest: int) -> None:
        """Drop the oldest surplus values, but never the newest `latest` ones."""
        held = len(self._held.get(principal, {}))
        # The latest value stays even if running turns hold the maximum number: storing it was just confirmed.
        while len(rows := self._resting.get(principal, {})) > max(latest, self._most - held):
            self.pop(principal, next(iter(rows)))


def _remove(values: dict[str, dict[Id, Any]], principal: str, identifier: Id) -> Any:
    theirs = values.get(principal, {})
    value = theirs.pop(identifier, None)
    if not theirs:
        values.pop(principal, None)
    return value


@dataclass(frozen=True, slots=True)
class MemoryBounds:
    """The capacity and retention of a memory store; see MemoryStore."""

    max_items: int
    ttl: float
    clock: Callable[[], float]
    max_bytes: int
    max_bytes_per_principal: int


class MemoryPart:
    """A part of the memory store. All parts share the same limits."""

    def __init__(self, bounds: MemoryBounds) -> None:
        self._max = bounds.max_items
        self._ttl = bounds.ttl
        self._clock = bounds.clock
        self._shares = Shares(bounds.max_bytes, min(bounds.max_bytes, bounds.max_bytes_per_principal))
        self._ended: OrderedDict[str, bool] = OrderedDict()
        # Positions have their own limits: deleting must not displace data.
        positions = Shares(64 * MAX_DELETED * POSITION_SIZE, MAX_DELETED * POSITION_SIZE)
        self._positions: Table[str, str] = Table(positions, MAX_DELETED)
        self._gone: dict[Key, AgentState] = {}

    @property
    def size(self) -> int:
        """Bytes of all data, without that of running turns."""
        return self._shares.size

    def size_of(self, principal: str) -> int:
        """Bytes of one principal's data, without that of running turns."""
        return self._shares.size_of(principal)

    def _delete_entry(self, table: Table[str, Value], principal: str, name: str) -> Value | None:
        """Delete an entry from a table, and store its position for pages."""
        names = [other for other, _ in table.entries(principal)]
        found = table.pop(principal, name)
        if found is not None:
            self._positions.pop(principal, name)
            self._positions.put(principal, name, name_before(name, names), size_of_text(name))
        return found

    def _names_after(
        self, principal: str, names: Sequence[str], after: str | None, order: Order
    ) -> Sequence[str] | None:
        """The names after `after`, which may have been deleted."""
        return names_after(after, names, order, lambda name: self._positions.get(principal, name))

    def _end_turn(self, token: str | None, *, committed: bool) -> None:
        """Record how a turn ended. The first entry wins: a turn that has lost one lock has lost."""
        if token is not None:
            self._ended.setdefault(token, committed)
            if len(self._ended) > MAX_ENDED_TURNS:
                self._ended.popitem(last=False)

    def _mark_state_gone(self, principal: str, state: AgentState | None) -> None:
        """Mark an agent's state as unreachable: its session may no longer be needed."""
        if state is None:
            return
        gone = state if state.of == "gone" else state.gone()
        self._gone[Key(principal, gone.id)] = gone
        if len(self._gone) > MAX_GONE_STATES:
            del self._gone[next(iter(self._gone))]

    def _is_expired(self, expires: float | None) -> bool:
        return expires is not None and expires <= self._clock()
