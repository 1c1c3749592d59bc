"""The Conversations API: `/v1/conversations`, and the items of each conversation.

The Responses API's `conversation` and chat's `X-Conversation-Id` name these same conversations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..aio.off_loop import run_off_loop
from ..errors import Conflict, NotFound
from ..state.approvals import withdraw_approvals
from ..state.conversation_locks import to_stored_items
from ..state.ids import new_id
from ..stores.port import Conversation, ConversationTurn, Key, TurnCommit
from ..turns.run import commit
from ..wire.chat.stored_types import MetadataUpdate
from ..wire.conversations import (
    ConversationObject,
    DeletedConversation,
    check_new,
    parse_new_conversation,
    parse_new_items,
)
from ..wire.json import dumps, from_stored_json, is_quick, parse_object, validate
from .exchange import Exchange
from .paging import page_of, page_query, unknown_cursor
from .services import Services

Parsed = TypeVar("Parsed")


async def create(services: Services, exchange: Exchange) -> None:
    """Create a conversation, with items or empty."""
    new = await _parse_body(services, exchange, lambda body: parse_new_conversation(body, new_id=new_id))
    made = await services.state.store.create(
        exchange.principal.id, new_id("conv_"), new.metadata, to_stored_items(new.items)
    )
    await exchange.answer(200, dumps(_to_object(made)))


async def retrieve(services: Services, exchange: Exchange, conversation: str) -> None:
    """A conversation with its metadata, without its items. Raises NotFound."""
    await exchange.answer(200, dumps(_to_object(await _find(services, Key(exchange.principal.id, conversation)))))


async def update(services: Services, exchange: Exchange, conversation: str) -> None:
    """Replace a conversation's metadata. Raises NotFound."""
    sent = validate(MetadataUpdate, await _parse_body(services, exchange, parse_object))
    found = await services.state.store.update(Key(exchange.principal.id, conversation), sent.metadata or {})
    if found is None:
        raise _unknown_conversation()
    await exchange.answer(200, dumps(_to_object(found)))


async def delete(services: Services, exchange: Exchange, conversation: str) -> None:
    """Delete a conversation. A turn that is running in it goes on, but is not stored. Raises NotFound."""
    key = Key(exchange.principal.id, conversation)
    pending = await services.state.store.approvals(key.principal, key.id)
    if not await services.state.store.delete(key):
        raise _unknown_conversation()
    # Agents that keep their own sessions are told in the background: the client need not wait for that.
    services.state.cleanup.schedule()
    await withdraw_approvals(services.state.store, key.principal, pending)
    gone: DeletedConversation = {"id": conversation, "object": "conversation.deleted", "deleted": True}
    await exchange.answer(200, dumps(gone))


async def list_items(services: Services, exchange: Exchange, conversation: str) -> None:
    """A page of a conversation's items. Raises NotFound."""
    key, asked = Key(exchange.principal.id, conversation), page_query(exchange.request.query, "desc")
    await _find(services, key)
    found = await services.state.store.page(key, asked.after, asked.limit, asked.order)
    if found is None:
        raise unknown_cursor()
    await exchange.answer(200, dumps(page_of([from_stored_json(item.body) for item in found.items], more=found.more)))


async def add_items(services: Services, exchange: Exchange, conversation: str) -> None:
    """Add items to a conversation. Raises NotFound, and Conflict while a turn runs in it."""
    items = await _parse_body(services, exchange, lambda body: parse_new_items(body, new_id=new_id))
    await _add(services, Key(exchange.principal.id, conversation), items)
    await exchange.answer(200, dumps(page_of(items, more=False)))


async def get_item(services: Services, exchange: Exchange, conversation: str, item: str) -> None:
    """One item of a conversation, as it is stored. Raises NotFound."""
    key = Key(exchange.principal.id, conversation)
    await _find(services, key)
    found = await services.state.store.item(key, item)
    if found is None:
        raise _unknown_item()
    await exchange.answer(200, dumps(from_stored_json(found.body)))


async def delete_item(services: Services, exchange: Exchange, conversation: str, item: str) -> None:
    """Delete one item. Raises NotFound."""
    key = Key(exchange.principal.id, conversation)
    found = await _find(services, key)
    gone = await services.state.store.item(key, item)
    if gone is None:
        raise _unknown_item()
    pending = await services.state.store.approvals(key.principal, key.id)
    await services.state.store.delete_item(key, item)
    services.state.cleanup.schedule()
    await withdraw_approvals(
        services.state.store, key.principal, [question for question in pending if question.id in gone.body]
    )
    await exchange.answer(200, dumps(_to_object(found)))  # OpenAI answers with the conversation


async def _add(services: Services, key: Key, items: Sequence[dict[str, Any]]) -> None:
    """Add items as a separate turn."""
    known = await _find(services, key)
    token = new_id("turn_")
    try:
        locked = await services.state.store.begin(key, token, services.state.leases.seconds)
        # No waiting for the lock: items in the middle of a turn would stand between its question and the answer.
        if locked is None:
            text = "A turn is running in this conversation."
            raise Conflict(text, code="conversation_busy", should_retry=False)
        if locked.created != known.created:  # deleted just now: the lock is on another conversation
            raise _unknown_conversation()
        check_new(items, {item.id for item in locked.items})
        turn = ConversationTurn(key.id, to_stored_items(items))
        await commit(services.state.store, TurnCommit(principal=key.principal, token=token, conversation=turn))
    finally:
        await services.state.late.run_shielded(
            lambda: services.state.store.release(key, token), "conversation given free"
        )


async def _parse_body(services: Services, exchange: Exchange, parse: Callable[[bytes], Parsed]) -> Parsed:
    body = await exchange.read_body(services.settings.limits, services.settings.deadlines)
    return await run_off_loop(parse, body, long=not is_quick(body))


async def _find(services: Services, key: Key) -> Conversation:
    # Without its items, which can be many, and which no caller here needs.
    found = await services.state.store.read(key, items=False)
    if found is None:
        raise _unknown_conversation()
    return found


def _to_object(found: Conversation) -> ConversationObject:
    return {
        "id": found.id,
        "object": "conversation",
        "created_at": int(found.created),
        "metadata": dict(found.metadata),
    }


def _unknown_conversation() -> NotFound:
    return NotFound("No conversation has this id.", code="conversation_not_found", param="conversation_id")


def _unknown_item() -> NotFound:
    return NotFound("No item of this conversation has this id.", code="item_not_found", param="item_id")
