"""Conversations of the chat REST API: lookup, titles, messages and pending approvals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ...backend import AgentBackend, HasTools
from ...errors import NotFound, Unavailable
from ...state.conversation_locks import Draft
from ...stores.port import Store
from ...stores.records import Approval, Conversation, Item, Key
from ...tools import Toolbox
from ...wire.chat_rest.serialize import conversation_of, decode_arguments, iso_time, messages_of, title_from
from ...wire.chat_rest.types import Message, PendingApproval, RestConversation
from ...wire.json import from_stored_json
from ..services import logger


async def find_conversation(store: Store, key: Key, *, items: bool = False) -> Conversation:
    """One of the caller's conversations, without its history unless `items`. Raises NotFound."""
    found = await store.read(key, items=items)
    if found is None:
        raise unknown_conversation()
    return found


async def give_title(store: Store, draft: Draft, user: Message) -> None:
    """Title a conversation after the user's message, unless it has a title."""
    if "title" not in draft.conversation.metadata:
        title = title_from(user["content"])
        try:
            await store.update(draft.key, {**draft.conversation.metadata, "title": title})
        except Unavailable as error:  # the turn is stored all the same
            logger.warning("the conversation %s could not be named: %s", draft.key.id, error.code)


def to_rest_conversation(found: Conversation) -> RestConversation:
    """The API's representation of a conversation."""
    return conversation_of(found.id, found.metadata, found.created, found.touched)


def to_rest_messages(found: Conversation) -> list[Message]:
    """The API's representation of a conversation's stored items."""
    return messages_of(found.id, read_items(found.items), iso_time(found.created))


def read_items(items: Sequence[Item]) -> list[dict[str, Any]]:
    """Stored items as items of the Responses API, the format of the whole conversation history."""
    return [from_stored_json(item.body) for item in items]


def toolbox_of(backend: AgentBackend) -> Toolbox | None:
    """The agent's own tools, if the server knows them."""
    return backend.tools if isinstance(backend, HasTools) and isinstance(backend.tools, Toolbox) else None


def pending_approval(approval: Approval, backends: Iterable[AgentBackend]) -> PendingApproval:
    """The API's representation of a pending call; `backends` are the agents that may have its tool."""
    toolboxes = [toolbox for backend in backends if (toolbox := toolbox_of(backend)) is not None]
    dangerous = any([toolbox.danger_of(approval.tool) == "dangerous" for toolbox in toolboxes])
    return {
        "id": approval.id,
        "toolCallId": approval.call_id,
        "toolName": approval.tool,
        "params": decode_arguments(approval.arguments),
        "conversationId": approval.conversation,
        "securityLevel": "dangerous" if dangerous else "moderate",
        "status": "pending",
        "createdAt": iso_time(approval.created),
        "expiresAt": iso_time(approval.expires),
    }


def unknown_conversation() -> NotFound:
    """The error for a conversation that does not exist, or belongs to another principal."""
    return NotFound("No conversation has this id.", code="conversation_not_found", param="conversationId")
