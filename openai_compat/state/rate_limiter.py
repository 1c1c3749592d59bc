"""Counts requests against rate limits, across all processes that share the store."""

from __future__ import annotations

from ..agent_request import Principal
from ..policies.rates import RatesOf, rate_limited
from ..stores.memory import MemoryStore
from ..stores.port import Store
from ..stores.records import Key
from .degraded import StoreFallback

REQUESTS = "requests"


class RateLimiter:
    """Counts each principal's requests in the store, or in this process while the store is unavailable.

    Refusing everybody then would turn an outage of the store into an outage of all agents.
    """

    def __init__(self, store: Store, rates: RatesOf) -> None:
        self._store = store
        self._rates = rates
        self._local = MemoryStore()
        self._shared = StoreFallback("each process counts its own requests against the rate limits")

    async def count(self, principal: Principal) -> list[tuple[str, str]]:
        """Count a request that is about to run an agent. Return the rate limit headers of its answer.

        Raises RateLimited (429), which has these headers too.
        """
        rates = self._rates(principal) if callable(self._rates) else self._rates
        rate = None if rates is None else rates.requests
        if rate is None:
            return []
        limit = (Key(principal.id, REQUESTS), rate.per_second, rate.at_once)
        allowed = await self._shared.call(lambda: self._store.allow(*limit)) or await self._local.allow(*limit)
        used = rate.at_once - 1 if allowed.wait else rate.at_once - allowed.remaining
        headers = rate.headers(allowed.remaining, used / rate.per_second + allowed.wait)
        if allowed.wait > 0:
            raise rate_limited("requests", rate, allowed.wait, headers)
        return headers
