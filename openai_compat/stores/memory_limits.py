"""Idempotency keys, slots and rate limits in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from ..policies.limits import LEASE
from .bounded_tables import MemoryBounds, MemoryPart, Table, size_of_text
from .records import Allowance, Charge, Claim, Key, Replay

DAY = 24 * 3600.0
"""Minimum retention of an idempotency key, in seconds, if there is room."""

# Dropping one rate limit forgives at most a caller's last minute.
MAX_RATES = 100_000
"""Maximum number of rate limits, one for each principal; the one unused for longest is dropped."""


@dataclass(slots=True)
class ClaimEntry:
    """A claimed idempotency key."""

    request: str
    token: str
    replay: Replay | None = None


class MemoryLimits(MemoryPart):
    """Idempotency keys, slots and rate limits in tables."""

    def __init__(self, bounds: MemoryBounds) -> None:
        super().__init__(bounds)
        self._claims: Table[str, ClaimEntry] = Table(self._shares, self._max)
        self._slots: dict[str, set[str]] = {}
        self._rates: OrderedDict[Key, float] = OrderedDict()

    async def claim(self, key: Key, request: str, token: str, lease: float = LEASE) -> Claim:
        self._sweep_claims(key.principal)
        claimed = self._claims.get(key.principal, key.id)  # a running request holds its key, so it is never swept
        if claimed is None:
            self._claims.hold(key.principal, key.id, ClaimEntry(request, token))
            return "taken"
        if claimed.request != request:
            return "other request"
        # The same token is the same request, whose first claim was not answered.
        return claimed.replay or ("taken" if claimed.token == token else "running")

    async def settle(self, key: Key, token: str, replay: Replay | None) -> None:
        claimed = self._claims.get(key.principal, key.id)
        # The first answer stands, even if the same request later has another outcome.
        if claimed is None or claimed.token != token or claimed.replay is not None:
            return
        if replay is None:
            self._claims.pop(key.principal, key.id)
        else:
            # Failures are stored too: a failed run may have done half of its work.
            claimed.replay = replay
            size = len(replay.body) + size_of_text(*[text for header in replay.headers for text in header])
            self._claims.put(key.principal, key.id, claimed, size, self._clock())

    async def take_slot(self, pool: str, token: str, size: int, lease: float = LEASE) -> bool:
        taken = self._slots.setdefault(pool, set())
        if len(taken) >= size and token not in taken:
            return False
        taken.add(token)
        return True

    async def free_slot(self, pool: str, token: str) -> None:
        self._slots.get(pool, set()).discard(token)

    async def allow(self, key: Key, per_second: float, burst: int) -> Allowance:
        # `due` is the time when all requests so far would have passed, had they been spread evenly.
        now, each = self._clock(), 1 / per_second
        due = max(self._rates.get(key, now), now) + each
        room = burst * each - (due - now)
        if room < 0:
            return Allowance(-room, 0)
        self._put_due(key, due)
        return Allowance(0.0, int(room / each + 1e-9))  # floating point may fall just below a whole number

    async def ahead(self, key: Key) -> float:
        return max(0.0, self._rates.get(key, 0.0) - self._clock())

    def _charge(self, principal: str, charges: Sequence[Charge]) -> None:
        now = self._clock()
        for charge in charges:
            key = Key(principal, charge.rate)
            self._put_due(key, max(self._rates.get(key, now), now) + charge.seconds)

    def _put_due(self, key: Key, due: float) -> None:
        self._rates[key] = due
        self._rates.move_to_end(key)
        if len(self._rates) > MAX_RATES:
            self._rates.popitem(last=False)

    def _sweep_claims(self, principal: str | None = None) -> int:
        return self._claims.pop_unused(self._clock() - max(self._ttl, DAY), principal)
