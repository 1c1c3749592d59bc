"""`GET /healthz` and `GET /readyz`, for load balancers and process managers."""

from __future__ import annotations

from ..errors import Unavailable
from ..wire.json import dumps
from .exchange import Exchange
from .services import Services


async def healthz(services: Services, exchange: Exchange) -> None:
    """Report that the process is alive, whatever else has failed."""
    await exchange.answer(200, dumps({"status": "ok"}))


async def readyz(services: Services, exchange: Exchange) -> None:
    """Report that the server accepts new turns. Raises Unavailable (503) while it shuts down.

    A store that cannot be reached does not make it unready: requests that need no store still work, and no other process
    could do more.
    """
    if services.live.slots.closed:
        raise Unavailable("The server is shutting down.", code="shutting_down")
    store = "ok" if await services.state.maintenance.is_available() else "unavailable"
    await exchange.answer(200, dumps({"status": "ready", "running": services.live.slots.used, "store": store}))
