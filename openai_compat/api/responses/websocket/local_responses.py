"""Responses that only one connection knows (`store: false`): they can be continued as long as the connection lasts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ....stores.bounded_tables import OVERHEAD, Shares, Table
from ..prepare import History

MAX_RESPONSES = 64
"""Responses that a connection keeps; the oldest are dropped first."""
BODIES_PER_CALLER = 4
"""Size limit of one caller's responses over all connections, in multiples of the request body limit. Data that two of them
share counts twice."""
CALLERS = 8
"""Size limit of all callers' responses, in multiples of the limit per caller."""


def shares_of(body_limit: int) -> Shares:
    """The size limits of the responses of all connections."""
    each = BODIES_PER_CALLER * body_limit + MAX_RESPONSES * OVERHEAD
    return Shares(CALLERS * each, each)


@dataclass(frozen=True, slots=True)
class _KeptResponse:
    history: History
    lane: str | None
    size: int


class ConnectionResponses(Mapping[str, History]):
    """The history up to each response, by the response's id."""

    def __init__(self, shares: Shares, principal: str) -> None:
        self._principal = principal
        self._kept: Table[str, _KeptResponse] = Table(shares, MAX_RESPONSES)

    def __getitem__(self, identifier: str) -> History:
        kept = self._kept.get(self._principal, identifier)
        if kept is None:
            raise KeyError(identifier)
        return kept.history

    def __iter__(self) -> Iterator[str]:
        return iter([identifier for identifier, _ in self._kept.entries(self._principal)])

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, identifier: str, history: History, *, after: str | None, lane: str | None, size: int) -> None:
        """Keep a response, `size` bytes more than the one it continues (`after`). The response itself is never dropped here."""
        parent = self._kept.get(self._principal, after or "")
        kept = _KeptResponse(history, lane, size + (parent.size if parent is not None else 0))
        self._kept.put(self._principal, identifier, kept, kept.size)

    def drop_failed(self, identifier: str | None, lane: str | None) -> None:
        """Note that a response could not be continued. Its own lane drops it then; a fork leaves it to its lane."""
        kept = self._kept.get(self._principal, identifier or "")
        if identifier is not None and kept is not None and kept.lane == lane:
            self._kept.pop(self._principal, identifier)

    def forget(self) -> None:
        """Drop all responses: the connection is gone, so nobody can continue them."""
        for identifier in self:
            self._kept.pop(self._principal, identifier)
