"""What every request that runs an agent has to pass first."""

from __future__ import annotations

from .exchange import Exchange
from .services import Runtime


async def admit(runtime: Runtime, exchange: Exchange) -> None:
    """Count the request against its caller's rate limit. Raises RateLimited (429).

    Comes before the agent, its conversation and its slot are looked for; a repeated answer is not counted.
    """
    if runtime.rates is not None:
        exchange.headers += await runtime.rates.count(exchange.principal)
