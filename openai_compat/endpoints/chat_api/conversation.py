"""One conversation as the chat REST API has it: found, locked, given a title, and what waits in it."""

from __future__ import annotations

from collections.abc import Sequence

from ...backend import AgentBackend
from ...conversations import Draft
from ...errors import NotFound
from ...protocol.chat_api import Conversation as Shown
from ...protocol.chat_api import Message, PendingApproval
from ...runtime import Runtime
from ...serializers.chat_api import conversation_of, iso, messages_of, read, title_from
from ...serializers.encoding import from_stored_json
from ...stores.port import Approval, Conversation, Item, Key
from ...tools import Toolbox


async def find(runtime: Runtime, key: Key, *, items: bool = False) -> Conversation:
    """A conversation. Raises NotFound."""
    found = await runtime.store.read(key, items=items)
    if found is None:
        raise unknown_conversation()
    return found


async def lock(runtime: Runtime, key: Key) -> Draft:
    """Have a conversation for one turn. Raises NotFound, and Conflict (409 `conversation_busy`)."""
    known = await find(runtime, key)
    draft = await runtime.turn_locks.lock(key)
    if draft.conversation.created != known.created:  # deleted just now: what is locked is another one
        await draft.close()
        raise unknown_conversation()
    return draft


async def give_title(runtime: Runtime, draft: Draft, user: Message | None) -> None:
    """Name a conversation after what was said in it first, unless it has a title."""
    if "title" not in draft.conversation.metadata and user is not None:
        title = title_from(user["content"])
        await runtime.store.update(draft.key, {**draft.conversation.metadata, "title": title})


def shown(found: Conversation) -> Shown:
    """A conversation as it is shown."""
    return conversation_of(found.id, found.metadata, found.created, found.touched)


def shown_messages(found: Conversation) -> list[Message]:
    """What was said in it."""
    return messages_of(found.id, read_items(found.items), iso(found.created))


def read_items(items: Sequence[Item]) -> list[dict[str, object]]:
    """Stored items as JSON."""
    return [from_stored_json(item.body) for item in items]


def toolbox_of(backend: AgentBackend) -> Toolbox | None:
    """The agent's own tools, as far as they are known here."""
    tools = getattr(backend, "tools", None)
    return tools if isinstance(tools, Toolbox) else None


def pending_approval(approval: Approval, backend: AgentBackend | None) -> PendingApproval:
    """A call that waits for a decision, as it is shown."""
    toolbox = None if backend is None else toolbox_of(backend)
    danger = None if toolbox is None else toolbox.danger_of(approval.tool)
    return {
        "id": approval.id,
        "toolCallId": approval.call_id,
        "toolName": approval.tool,
        "params": read(approval.arguments),
        "conversationId": approval.conversation,
        "securityLevel": "dangerous" if danger == "dangerous" else "moderate",
        "status": "pending",
        "createdAt": iso(approval.created),
        "expiresAt": iso(approval.expires),
    }


def unknown_conversation() -> NotFound:
    """The error for a conversation that is not there, or is another's."""
    return NotFound("No conversation has this id.", code="conversation_not_found", param="conversationId")
