"""The responses that only one connection knows (`store: false`): they can be continued as long as it lasts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NUMBER = 64
"""Responses that are kept; the oldest are forgotten first."""
BODIES = 4
"""Times the limit of a request body: what they may be together, in bytes. What two of them share counts twice."""


@dataclass(frozen=True, slots=True)
class _Kept:
    items: Sequence[dict[str, Any]]
    lane: str | None
    size: int


class Nearby(Mapping[str, Sequence[dict[str, Any]]]):
    """All that was said up to each of them, by its id."""

    def __init__(self, body_limit: int) -> None:
        self._limit = BODIES * body_limit
        self._kept: dict[str, _Kept] = {}
        self._size = 0

    def __getitem__(self, identifier: str) -> Sequence[dict[str, Any]]:
        return self._kept[identifier].items

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def keep(
        self, identifier: str, items: Sequence[dict[str, Any]], *, after: str | None, lane: str | None, size: int
    ) -> None:
        """Remember a response, `size` bytes more than what it continues (`after`). It is never itself forgotten here."""
        parent = self._kept.get(after or "")
        kept = _Kept(items, lane, size + (parent.size if parent is not None else 0))
        self._kept[identifier] = kept
        self._size += kept.size
        while len(self._kept) > 1 and (len(self._kept) > NUMBER or self._size > self._limit):
            self._forget(next(iter(self._kept)))

    def failed(self, identifier: str | None, lane: str | None) -> None:
        """It could not be continued. A lane's own response is forgotten then; a fork leaves it to its lane."""
        kept = self._kept.get(identifier or "")
        if identifier is not None and kept is not None and kept.lane == lane:
            self._forget(identifier)

    def _forget(self, identifier: str) -> None:
        self._size -= self._kept.pop(identifier).size
