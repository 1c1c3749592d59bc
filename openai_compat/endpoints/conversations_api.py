"""The Conversations API: `/v1/conversations`, and the items below each of them.

These are the same conversations as those of the Responses API's `conversation` and of chat's `X-Conversation-Id`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ..conversations import stored_items
from ..errors import Conflict, MethodNotAllowed, NotFound
from ..exchange import Exchange
from ..parsers.body import parse_object, validate
from ..parsers.conversations import check_new, parse_new_conversation, parse_new_items
from ..policies.content import check_content_type
from ..policies.limits import read_body
from ..protocol.conversations import ConversationObject, DeletedConversation
from ..protocol.stored import MetadataUpdate
from ..runtime import Runtime, new_id
from ..serializers.encoding import dumps, from_stored_json
from ..stores.port import Conversation, ConversationTurn, Key, Outcome
from ..tasks import to_the_end
from .generation import commit
from .pages import page_of, page_query, unknown_cursor


async def create(runtime: Runtime, exchange: Exchange) -> None:
    """Make a conversation, with items in it or empty."""
    new = parse_new_conversation(await _body(runtime, exchange), new_id)
    made = await runtime.store.create(exchange.principal.id, new_id("conv_"), new.metadata, stored_items(new.items))
    await exchange.answer(200, dumps(_object(made)))


async def retrieve(runtime: Runtime, exchange: Exchange, rest: str) -> None:
    """A conversation, a page of its items, or one of these. Raises NotFound."""
    key, item = _split(exchange, rest)
    match item:
        case None:
            await exchange.answer(200, dumps(_object(await _find(runtime, key))))
        case "":
            await exchange.answer(200, dumps(await _page(runtime, exchange, key)))
        case _:
            await _find(runtime, key)
            found = await runtime.store.item(key, item)
            if found is None:
                raise _unknown_item()
            await exchange.answer(200, dumps(from_stored_json(found.body)))


async def update(runtime: Runtime, exchange: Exchange, rest: str) -> None:
    """Replace a conversation's metadata, or add items to it. Raises NotFound, and Conflict while a turn runs in it."""
    key, item = _split(exchange, rest)
    match item:
        case None:
            await _update_metadata(runtime, exchange, key)
        case "":
            items = parse_new_items(await _body(runtime, exchange), new_id)
            await _add(runtime, key, items)
            await exchange.answer(200, dumps(page_of(items, more=False)))
        case _:
            raise _only("GET, DELETE, HEAD")


async def delete(runtime: Runtime, exchange: Exchange, rest: str) -> None:
    """Forget a conversation, or take one item out of it. A turn that runs in it goes on, and is not kept."""
    key, item = _split(exchange, rest)
    match item:
        case None:
            if not await runtime.store.delete(key):
                raise _unknown()
            gone: DeletedConversation = {"id": key.id, "object": "conversation.deleted", "deleted": True}
            await exchange.answer(200, dumps(gone))
        case "":
            raise _only("GET, POST, HEAD")
        case _:
            found = await _find(runtime, key)
            if not await runtime.store.delete_item(key, item):
                raise _unknown_item()
            await exchange.answer(200, dumps(_object(found)))


async def _update_metadata(runtime: Runtime, exchange: Exchange, key: Key) -> None:
    sent = validate(MetadataUpdate, parse_object(await _body(runtime, exchange)))
    found = await runtime.store.update(key, sent.metadata or {})
    if found is None:
        raise _unknown()
    await exchange.answer(200, dumps(_object(found)))


async def _page(runtime: Runtime, exchange: Exchange, key: Key) -> dict[str, Any]:
    asked = page_query(exchange.request.query, "desc")
    await _find(runtime, key)
    found = await runtime.store.page(key, asked.after, asked.limit, asked.order)
    if found is None:
        raise unknown_cursor()
    return page_of([from_stored_json(item.body) for item in found.items], more=found.more)


async def _add(runtime: Runtime, key: Key, items: Sequence[dict[str, Any]]) -> None:
    """Add items as a turn of their own."""
    known = await _find(runtime, key)
    token = new_id("turn_")
    try:
        locked = await runtime.store.begin(key, token, runtime.leases.seconds)
        if locked is None:
            text = "A turn is running in this conversation."
            raise Conflict(text, code="conversation_busy", should_retry=False)
        if locked.created != known.created:  # deleted just now: what is locked is another one
            raise _unknown()
        check_new(items, {item.id for item in locked.items})
        turn = ConversationTurn(key.id, stored_items(items))
        await commit(runtime, Outcome(principal=key.principal, token=token, conversation=turn))
    finally:
        await to_the_end(partial(runtime.store.release, key, token), "conversation given free")


async def _body(runtime: Runtime, exchange: Exchange) -> bytes:
    check_content_type(exchange.request)
    return await read_body(exchange.request, runtime.limits.body, runtime.deadlines.body)


async def _find(runtime: Runtime, key: Key) -> Conversation:
    found = await runtime.store.read(key, items=False)
    if found is None:
        raise _unknown()
    return found


def _split(exchange: Exchange, rest: str) -> tuple[Key, str | None]:
    """The conversation, and the item: None if it is about none, "" for all of them. Ids may have slashes in them."""
    principal = exchange.principal.id
    if rest.endswith("/items"):
        return Key(principal, rest.removesuffix("/items")), ""
    conversation, slash, item = rest.rpartition("/items/")
    return (Key(principal, conversation), item) if slash else (Key(principal, rest), None)


def _object(found: Conversation) -> ConversationObject:
    return {
        "id": found.id,
        "object": "conversation",
        "created_at": int(found.created),
        "metadata": dict(found.metadata),
    }


def _only(methods: str) -> MethodNotAllowed:
    return MethodNotAllowed(f"This path takes {methods}.", headers={"Allow": methods})


def _unknown() -> NotFound:
    return NotFound("No conversation has this id.", code="conversation_not_found", param="conversation_id")


def _unknown_item() -> NotFound:
    return NotFound("No item of this conversation has this id.", code="item_not_found", param="item_id")
