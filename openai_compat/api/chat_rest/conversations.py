"""`/conversations`: create, list, get, rename, fork, export and delete them, and list and delete their messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...errors import InvalidRequest, NotFound
from ...state.approvals import withdraw_approvals
from ...state.conversation_locks import to_stored_items
from ...state.ids import new_id
from ...stores.records import Key
from ...wire.chat_rest.parse import encode_cursor, labels, parse_list
from ...wire.chat_rest.serialize import UNTITLED, groups_of, iso_time, message_id
from ...wire.chat_rest.types import (
    ConversationAnswer,
    ConversationExport,
    ConversationList,
    ConversationWithMessages,
    Done,
    ForkRequest,
    NewTitle,
    RestConversation,
    RestNewConversation,
)
from ...wire.json import dumps
from ..exchange import Exchange
from ..services import Services, now
from .lookup import find_conversation, read_items, to_rest_conversation, to_rest_messages, unknown_conversation
from .request import query, read_request

DONE: Done = {"success": True}
QUESTION = "mcp_approval_request"


async def create(services: Services, exchange: Exchange) -> None:
    """Create an empty conversation with its labels and an optional title."""
    asked, _ = await read_request(services.settings, exchange, RestNewConversation)
    metadata = {**labels(asked), **({} if asked.title is None else {"title": asked.title})}
    made = await services.state.store.create(exchange.principal.id, new_id("conv_"), metadata, ())
    await _send_conversation(exchange, to_rest_conversation(made), 201)


async def list_conversations(services: Services, exchange: Exchange) -> None:
    """A page of conversations, the most recently used first."""
    asked = parse_list(exchange.request.query)
    # Reading one more than requested shows if there is another page.
    shelf = await services.state.store.conversations(
        exchange.principal.id, asked.labels, asked.limit + 1, asked.offset, asked.before
    )
    found = shelf.conversations[: asked.limit]
    more = len(shelf.conversations) > asked.limit
    answer: ConversationList = {
        "conversations": [to_rest_conversation(one) for one in found],
        "total": shelf.total,
        "nextCursor": encode_cursor(found[-1].touched, found[-1].id) if more else None,
    }
    await exchange.answer(200, dumps(answer))


async def get(services: Services, exchange: Exchange, conversation: str) -> None:
    """A conversation with its messages. Raises NotFound."""
    found = await find_conversation(services.state.store, Key(exchange.principal.id, conversation), items=True)
    answer: ConversationWithMessages = {
        "conversation": to_rest_conversation(found),
        "messages": to_rest_messages(found),
    }
    await exchange.answer(200, dumps(answer))


async def delete(services: Services, exchange: Exchange, conversation: str) -> None:
    """Delete a conversation. A turn that is running in it is not stored. Raises NotFound."""
    key = Key(exchange.principal.id, conversation)
    # Read before the deletion: afterwards nothing leads to the questions.
    pending = await services.state.store.approvals(key.principal, key.id)
    if not await services.state.store.delete(key):
        raise unknown_conversation()
    services.state.cleanup.schedule()
    await withdraw_approvals(services.state.store, key.principal, pending)
    await exchange.answer(200, dumps(DONE))


async def delete_message(services: Services, exchange: Exchange, conversation: str, message: str) -> None:
    """Delete one message. Raises NotFound."""
    key = Key(exchange.principal.id, conversation)
    # Not while a turn runs: its history would lose a message in the middle.
    async with await services.state.locks.lock(key, unknown_conversation) as draft:
        group = next((group for group in groups_of(draft.items) if message_id(group) == message), None)
        if group is None:
            raise _unknown_message("messageId")
        pending = await services.state.store.approvals(key.principal, key.id)
        for item in group:
            await services.state.store.delete_item(key, item["id"])
        # Other APIs put a question's id into the text.
        gone = [item.body for item in to_stored_items(group)]
        withdrawn = [question for question in pending if any([question.id in body for body in gone])]
        await withdraw_approvals(services.state.store, key.principal, withdrawn)
    services.state.cleanup.schedule()
    await exchange.answer(200, dumps(DONE))


async def list_messages(services: Services, exchange: Exchange, conversation: str) -> None:
    """The messages of a conversation. Raises NotFound."""
    found = await find_conversation(services.state.store, Key(exchange.principal.id, conversation), items=True)
    await exchange.answer(200, dumps({"messages": to_rest_messages(found)}))


async def rename(services: Services, exchange: Exchange, conversation: str) -> None:
    """Give a conversation a title. Raises NotFound."""
    asked, _ = await read_request(services.settings, exchange, NewTitle)
    key = Key(exchange.principal.id, conversation)
    found = await find_conversation(services.state.store, key)
    named = await services.state.store.update(key, {**found.metadata, "title": asked.title})
    if named is None:  # deleted meanwhile
        raise unknown_conversation()
    await _send_conversation(exchange, to_rest_conversation(named))


async def fork(services: Services, exchange: Exchange, conversation: str) -> None:
    """Copy a conversation, up to a message. Calls that wait for a decision stay with the original."""
    asked, _ = await read_request(services.settings, exchange, ForkRequest)
    found = await find_conversation(services.state.store, Key(exchange.principal.id, conversation), items=True)
    items = read_items(found.items)
    if asked.message_id is not None:
        items = _items_until(items, asked.message_id)
    title = asked.title or f"{found.metadata.get('title', UNTITLED)} (fork)"
    copied = [
        {**item, "id": new_id(f"{str(item['id']).rpartition('_')[0] or 'item'}_")}
        for item in items
        if item.get("type") != QUESTION  # each is bound to the conversation in which it was asked
    ]
    # Metadata values have at most 512 characters, as in OpenAI's API, which reads this conversation too.
    metadata = {**found.metadata, "title": title[:512]}
    identifier, state = new_id("conv_"), found.latest_state
    # A state belongs to the end: a copy that branches off before the end, or leaves out a question, gets none.
    at_end = state is not None and len(copied) == len(found.items)
    kept = replace(state, id=identifier, turn=1) if state is not None and at_end else None
    made = await services.state.store.create(exchange.principal.id, identifier, metadata, to_stored_items(copied), kept)
    await _send_conversation(exchange, to_rest_conversation(made), 201)


def _items_until(items: Sequence[dict[str, Any]], message: str) -> list[dict[str, Any]]:
    groups = groups_of(items)
    for group in groups:
        if message_id(group) == message:
            last = items.index(group[-1])
            return list(items[: last + 1])
    raise _unknown_message("messageId")


async def export(services: Services, exchange: Exchange, conversation: str) -> None:
    """Export a conversation as a file: JSON, or Markdown for people."""
    kind = query(exchange).get("format", "json")
    if kind not in ("json", "markdown"):
        raise InvalidRequest("'format' is 'json' or 'markdown'.", param="format", code="invalid_value")
    found = await find_conversation(services.state.store, Key(exchange.principal.id, conversation), items=True)
    about, messages = to_rest_conversation(found), to_rest_messages(found)
    if kind == "markdown":
        named = ("Content-Disposition", 'attachment; filename="conversation.md"')
        parts = [f"# {about['title']}", *[f"## {message['role']}\n\n{message['content']}" for message in messages]]
        text = ("\n\n".join(parts) + "\n").encode("utf-8", "replace")
        await exchange.answer(200, text, ("Content-Type", "text/markdown; charset=utf-8"), named)
        return
    whole: ConversationExport = {"conversation": about, "messages": messages, "exportedAt": iso_time(now())}
    await exchange.answer(200, dumps(whole), ("Content-Disposition", 'attachment; filename="conversation.json"'))


async def _send_conversation(exchange: Exchange, conversation: RestConversation, status: int = 200) -> None:
    answer: ConversationAnswer = {"conversation": conversation}
    await exchange.answer(status, dumps(answer))


def _unknown_message(param: str) -> NotFound:
    return NotFound("No message of this conversation has this id.", code="message_not_found", param=param)
