"""A cache of results with expiry times."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class ResultCache(Generic[Value]):
    """An LRU cache of at most `most` results, each with an expiry time.

    Keys are digests of tokens, not tokens, because memory can end up in a dump.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[float, Value]] = OrderedDict()

    def get(self, digest: bytes) -> Value | None:
        """Return the cached result, or None if it is missing or expired."""
        found = self._kept.get(digest)
        if found is None:
            return None
        if found[0] <= self._clock():
            del self._kept[digest]
            return None
        self._kept.move_to_end(digest)
        return found[1]

    def keep(self, digest: bytes, value: Value, until: float) -> None:
        """Cache a result until the time `until` of the clock."""
        if until <= self._clock():
            return
        self._kept[digest] = (until, value)
        self._kept.move_to_end(digest)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def __len__(self) -> int:
        return len(self._kept)
