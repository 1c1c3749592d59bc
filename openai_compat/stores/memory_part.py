"""What all parts of the memory store share: its bounds, its clock, and how turns have ended."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeVar

from .port import Key

MAX_ENDED = 10_000
"""Turns of which is remembered how they ended: the latest."""

Value = TypeVar("Value")


class MemoryPart:
    """A part of the store, which keeps at most `max_items` of a kind, each for `ttl` seconds after its last use."""

    def __init__(self, max_items: int = 1000, ttl: float = 1800, clock: Callable[[], float] = time.time) -> None:
        self._max = max_items
        self._ttl = ttl
        self._clock = clock
        self._ended: OrderedDict[str, bool] = OrderedDict()

    def _end_turn(self, token: str | None, *, committed: bool) -> None:
        """A turn that has lost one thing has lost; one that was committed may ask again whether it was."""
        if token is not None:
            self._ended.setdefault(token, committed)
            if len(self._ended) > MAX_ENDED:
                self._ended.popitem(last=False)

    def _over(self, expires: float | None) -> bool:
        return expires is not None and expires <= self._clock()

    def _outdated(
        self, kept: OrderedDict[Key, Value], use: Callable[[Value], tuple[float, str | None]]
    ) -> Sequence[Key]:
        """What is idle too long, then the oldest over the limit; never what is held.

        The dictionary is in the order of last use, so looking stops at the first one that may stay.
        """
        too_old = self._clock() - self._ttl
        surplus = len(kept) - self._max
        dropped: list[Key] = []
        for key, value in kept.items():
            touched, token = use(value)
            if len(dropped) >= surplus and touched > too_old:
                break
            if token is None:
                dropped.append(key)
        return dropped
