"""The background work of a server, for as long as it serves."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ..aio.background import spawn
from .follow import fail_lost_responses
from .services import Services


@asynccontextmanager
async def background_work(services: Services) -> AsyncGenerator[None]:
    """Wrap serving: deliver what other processes have left undelivered, and follow their changes.

    Raises UnusableStore for a database that can never be used, or has secrets that cannot be unsealed.
    """
    state = services.state
    await state.maintenance.begin()
    await state.outbox.begin()
    works = [spawn(lambda: fail_lost_responses(services), "lost responses", lambda: None)]
    if state.providers is not None:
        await state.providers.begin()
        works.append(spawn(state.providers.follow, "settings of providers", lambda: None))
    try:
        yield
    finally:
        for work in works:
            work.cancel()
