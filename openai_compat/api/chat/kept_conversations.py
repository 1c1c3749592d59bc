"""`GET` and `DELETE /v1/chat/conversations/{id}`: a stored conversation. Our extension of OpenAI's API."""

from __future__ import annotations

from ...errors import NotFound
from ...stores.port import Key, Store
from ...wire.chat.stored_types import Deleted, KeptConversation
from ...wire.json import dumps, from_stored_json
from ...wire.serialize_messages import chat_messages_of
from ..exchange import Exchange
from ..services import Services


async def get_conversation(services: Services, exchange: Exchange, identifier: str) -> None:
    """The messages of a conversation, oldest first. Raises NotFound."""
    found = await _store(services).read(Key(exchange.principal.id, identifier))
    if found is None:
        raise _unknown_conversation()
    body: KeptConversation = {
        "id": found.id,
        "object": "chat.conversation",
        "created": int(found.created),
        "turns": found.version,
        "messages": chat_messages_of([from_stored_json(item.body) for item in found.items]),
    }
    await exchange.answer(200, dumps(body))


async def delete_conversation(services: Services, exchange: Exchange, identifier: str) -> None:
    """Delete a conversation. A turn that is running in it goes on, but is not stored. Raises NotFound."""
    if not await _store(services).delete(Key(exchange.principal.id, identifier)):
        raise _unknown_conversation()
    services.state.cleanup.schedule()
    body: Deleted = {"id": identifier, "object": "chat.conversation.deleted", "deleted": True}
    await exchange.answer(200, dumps(body))


def _store(services: Services) -> Store:
    if services.settings.conversations is None:
        raise NotFound("This server keeps no conversations.", code="unknown_url")
    return services.state.store


def _unknown_conversation() -> NotFound:
    return NotFound("No conversation has this id.", code="conversation_not_found")
