"""The caller's always-allow grants: list and revoke."""

from __future__ import annotations

from ...errors import NotFound
from ...stores.records import Key
from ...wire.chat_rest.serialize import iso_time
from ...wire.chat_rest.types import GrantEntry
from ...wire.json import dumps, from_stored_json
from ..exchange import Exchange
from ..services import Services


async def list_grants(services: Services, exchange: Exchange) -> None:
    """All of the caller's grants."""
    found = await services.state.store.grants(exchange.principal.id)
    shown = [
        GrantEntry(
            id=grant.id,
            agent=grant.agent,
            tool=grant.tool,
            allow=from_stored_json(grant.body),
            createdAt=iso_time(grant.created),
        )
        for grant in found
    ]
    await exchange.answer(200, dumps({"grants": shown}))


async def revoke(services: Services, exchange: Exchange, identifier: str) -> None:
    """Revoke a grant: the next such call waits for a decision again, in every process. Raises NotFound."""
    if not await services.state.store.delete_grant(Key(exchange.principal.id, identifier)):
        raise NotFound("No grant has this id.", code="grant_not_found", param="grant_id")
    await exchange.answer(200, dumps({"success": True}))
