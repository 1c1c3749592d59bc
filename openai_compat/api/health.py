"""`GET /healthz` and `GET /readyz`, for load balancers and process managers."""

from __future__ import annotations

from ..errors import Unavailable
from ..wire.json import dumps
from .exchange import Exchange
from .services import Runtime


async def healthz(runtime: Runtime, exchange: Exchange) -> None:
    """The process is alive."""
    await exchange.answer(200, dumps({"status": "ok"}))


async def readyz(runtime: Runtime, exchange: Exchange) -> None:
    """The server takes new turns. Raises Unavailable (503) while it shuts down.

    That the store is away does not make it unready: it can still answer what needs no store, and no process could more.
    """
    if runtime.slots.closed:
        raise Unavailable("The server is shutting down.", code="shutting_down")
    store = "ok" if await runtime.upkeep.answers() else "unavailable"
    await exchange.answer(200, dumps({"status": "ready", "running": runtime.slots.used, "store": store}))
