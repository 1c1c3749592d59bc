"""What bounds requests, in memory: idempotency keys, slots, rate limits."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from .memory_part import MemoryPart
from .port import (
    LEASE,
    Allowance,
    Claim,
    Key,
    Replay,
)

DAY = 24 * 3600.0
"""Seconds for which an idempotency key is kept at least."""

MAX_REPLAY_BYTES = 64 * 1024 * 1024
"""Bytes of all recorded answers together."""

MAX_RATES = 100_000
"""Rate limits that are remembered: those used last."""


@dataclass(slots=True)
class Claimed:
    """An idempotency key that is taken."""

    request: str
    token: str
    touched: float
    replay: Replay | None = None


class MemoryLimits(MemoryPart):
    """Idempotency keys, slots and rate limits in dictionaries."""

    def __init__(self, max_items: int = 1000, ttl: float = 1800, clock: Callable[[], float] = time.time) -> None:
        super().__init__(max_items, ttl, clock)
        self._claims: OrderedDict[Key, Claimed] = OrderedDict()
        self._replay_bytes = 0
        self._slots: dict[str, set[str]] = {}
        self._rates: OrderedDict[Key, float] = OrderedDict()

    async def claim(self, key: Key, request: str, token: str, lease: float = LEASE) -> Claim:
        """Take an idempotency key."""
        claimed = self._claims.get(key)
        if claimed is None:
            self._claims[key] = Claimed(request, token, self._clock())
            self._drop_claims()
            return "taken"
        if claimed.request != request:
            return "other request"
        return claimed.replay or ("taken" if claimed.token == token else "running")

    async def settle(self, key: Key, token: str, replay: Replay | None) -> None:
        """Record the answer, or give the key back."""
        claimed = self._claims.get(key)
        if claimed is None or claimed.token != token or claimed.replay is not None:
            return
        if replay is None:
            del self._claims[key]
        else:
            claimed.replay, claimed.touched = replay, self._clock()
            self._replay_bytes += len(replay.body)
            self._drop_claims()

    async def take_slot(self, pool: str, token: str, size: int, lease: float = LEASE) -> bool:
        """Take one of the slots of a pool."""
        taken = self._slots.setdefault(pool, set())
        if len(taken) >= size and token not in taken:
            return False
        taken.add(token)
        return True

    async def free_slot(self, pool: str, token: str) -> None:
        """Give it back."""
        self._slots.get(pool, set()).discard(token)

    async def allow(self, key: Key, per_second: float, burst: int) -> Allowance:
        """Count a request against a rate limit: `due` is when all that was let pass so far would have been spread."""
        now, each = self._clock(), 1 / per_second
        due = max(self._rates.get(key, now), now) + each
        room = burst * each - (due - now)
        if room < 0:
            return Allowance(-room, 0)
        self._rates[key] = due
        self._rates.move_to_end(key)
        if len(self._rates) > MAX_RATES:
            self._rates.popitem(last=False)
        return Allowance(0.0, int(room / each + 1e-9))

    def _drop_claims(self) -> None:
        """Drop replays a day old, then the oldest over the limits; never a key whose first request still runs."""
        too_old = self._clock() - max(self._ttl, DAY)
        for key, claimed in list(self._claims.items()):
            over = len(self._claims) > self._max or self._replay_bytes > MAX_REPLAY_BYTES
            if claimed.replay is None:
                continue
            if not over and claimed.touched > too_old:
                break
            self._replay_bytes -= len(claimed.replay.body)
            del self._claims[key]
