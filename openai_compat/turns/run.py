"""Keeps what a turn of an agent leaves behind."""

from __future__ import annotations

import anyio

from ..errors import Conflict
from ..stores.port import Outcome, Store


async def commit(store: Store, outcome: Outcome) -> None:
    """Write what a turn leaves behind: whole or not at all, also when the client leaves just now. Raises Conflict."""
    with anyio.CancelScope(shield=True):
        if await store.commit(outcome):
            return
    raise Conflict("The conversation was changed meanwhile.", code="turn_lost", should_retry=False)
