"""The responses that only one connection knows (`store: false`): they can be continued as long as it lasts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ....stores.bounded_tables import OVERHEAD, Shares, Table
from ..prepare import Before

NUMBER = 64
"""Responses of a connection that are kept; the oldest are forgotten first."""
BODIES = 4
"""Times the limit of a request body: what those of one caller may be together, in bytes, over all connections. What two
of them share counts twice."""
CALLERS = 8
"""Times that: what those of all callers may be."""


def shares_of(body_limit: int) -> Shares:
    """The room of a server's connections together."""
    each = BODIES * body_limit + NUMBER * OVERHEAD
    return Shares(CALLERS * each, each)


@dataclass(frozen=True, slots=True)
class _KeptResponse:
    said: Before
    lane: str | None
    size: int


class ConnectionResponses(Mapping[str, Before]):
    """All that was said up to each of them, by its id."""

    def __init__(self, shares: Shares, principal: str) -> None:
        self._principal = principal
        self._kept: Table[str, _KeptResponse] = Table(shares, NUMBER)

    def __getitem__(self, identifier: str) -> Before:
        kept = self._kept.get(self._principal, identifier)
        if kept is None:
            raise KeyError(identifier)
        return kept.said

    def __iter__(self) -> Iterator[str]:
        return iter([identifier for identifier, _ in self._kept.of(self._principal)])

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, identifier: str, said: Before, *, after: str | None, lane: str | None, size: int) -> None:
        """Remember a response, `size` bytes more than what it continues (`after`). It is never itself forgotten here."""
        parent = self._kept.get(self._principal, after or "")
        kept = _KeptResponse(said, lane, size + (parent.size if parent is not None else 0))
        self._kept.rest(self._principal, identifier, kept, kept.size)

    def failed(self, identifier: str | None, lane: str | None) -> None:
        """It could not be continued. A lane's own response is forgotten then; a fork leaves it to its lane."""
        kept = self._kept.get(self._principal, identifier or "")
        if identifier is not None and kept is not None and kept.lane == lane:
            self._kept.pop(self._principal, identifier)

    def forget(self) -> None:
        """The connection is gone: nobody can continue its responses any more."""
        for identifier in self:
            self._kept.pop(self._principal, identifier)
