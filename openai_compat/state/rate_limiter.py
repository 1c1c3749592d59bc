"""Counts requests against rate limits, over all processes that share the store."""

from __future__ import annotations

import math

from ..agent_request import Principal
from ..errors import RateLimited
from ..policies.rates import RatesOf
from ..stores.memory import MemoryStore
from ..stores.port import Store
from ..stores.records import Key
from .degraded import StoreFallback

REQUESTS = "requests"


class RateLimiter:
    """Counts each principal's requests in the store, or in this process while the store is away.

    A limit that refused everybody then would make an outage of the store one of all agents.
    """

    def __init__(self, store: Store, rates: RatesOf) -> None:
        self._store = store
        self._rates = rates
        self._here = MemoryStore()
        self._shared = StoreFallback("each process counts its own requests against the rate limits")

    async def count(self, principal: Principal) -> list[tuple[str, str]]:
        """Count a request that is about to run an agent. Returns the rate limit headers of its answer.

        Raises RateLimited (429), which has these headers too.
        """
        rates = self._rates(principal) if callable(self._rates) else self._rates
        if rates is None:
            return []
        limit = (Key(principal.id, REQUESTS), rates.per_second, rates.at_once)
        allowed = await self._shared.call(lambda: self._store.allow(*limit)) or await self._here.allow(*limit)
        headers = rates.headers(allowed.remaining, allowed.wait)
        if allowed.wait > 0:
            wait = allowed.wait
            text = f"More than {rates.requests_per_minute:g} requests in a minute. Try again in {wait:.3g} s."
            exactly = ("Retry-After-Ms", str(math.ceil(wait * 1000)))  # OpenAI's SDKs prefer it to Retry-After
            # OpenAI's SDKs wait for up to 120 s; told to wait longer, they do not try again.
            raise RateLimited(text, retry_after=math.ceil(wait), headers=dict([*headers, exactly]))
        return headers
