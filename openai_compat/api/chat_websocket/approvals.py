"""Approvals on the chat WebSocket: the frame that asks, and the request of the turn that goes on with a decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from ...agent_request import AgentRequest, Caller, Sampling
from ...errors import NotFound
from ...events import PendingCall
from ...stores.port import Store
from ...stores.records import Approval, Key
from ...wire.chat.parse import parse_chat_object
from ...wire.chat_websocket import serialize as chat_frames

Fields: TypeAlias = dict[str, Any]


async def load_question(store: Store, key: Key, thread_id: str | None) -> tuple[Approval, str]:
    """A question, and the thread where it was asked. Raises NotFound if it is unknown, or asked in another thread."""
    approval = await store.approval(key)
    # A question is decided in the thread where it was asked.
    if approval is None or approval.conversation is None or thread_id not in (None, approval.conversation):
        raise NotFound("No approval has this id.", code="approval_not_found", param="approval_id")
    return approval, approval.conversation


def rebuild_request(model: str, settings: Mapping[str, Any], tools: Sequence[Fields], caller: Caller) -> AgentRequest:
    """The request of a turn that goes on: as it was first made, with the tools that the client offers now."""
    nothing = [{"role": "user", "content": ""}]  # the conversation has the messages
    fields = {"model": model, "messages": nothing, "stream": True, "tools": list(tools) or None}
    request = replace(parse_chat_object(fields, caller).request, messages=(), raw_messages=[])
    sampling = Sampling(
        settings.get("temperature"), max_tokens=settings.get("maxTokens"), reasoning_effort=settings.get("effort")
    )
    extra, metadata = settings.get("extra", {}), settings.get("metadata", {})
    return replace(request, sampling=sampling, extra=extra, metadata=metadata)


def approval_frame(approval: Approval) -> Fields:
    """The frame that asks for a decision."""
    call = PendingCall(approval.call_id, approval.tool, approval.arguments, "approval")
    return chat_frames.approval_request(approval.id, call, approval.expires)
