"""The chat REST API's objects: turns as stored items, and the representation of conversations and messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, cast

from ...events import Paused, PendingCall, ToolCallReady, ToolResult
from ...messages import Message as TypedMessage
from ..presentation import Presentation
from ..reducer import FinalMessage, Item, Reducer, Usage
from ..serialize_messages import compaction_item, items_of, output_text, reply_message
from .types import FinishReason, Message, RestCompaction, RestConversation, TokenUsage, ToolCallRecord

StoredItem: TypeAlias = dict[str, Any]
NewId: TypeAlias = Callable[[str], str]

EXTENSION_KEY = "chat_rest"
"""The key in stored items for the data that only this API uses."""

TITLE_LENGTH = 50
UNTITLED = "New conversation"
# Hyphens: this API's clients compare the values verbatim.
REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
}
AGENT_ITEM_TYPES = frozenset(["reasoning", "mcp_call", "mcp_approval_request", "function_call", "custom_tool_call"])
OUTPUT_ITEM_TYPES = frozenset(["function_call_output", "custom_tool_call_output"])


class TurnRecord:
    """Collects the events of a turn.

    Attributes:
        calls: the agent's own calls in their API representation, in the order in which they began.
        approvals: maps approval ids to the calls that wait for a decision.
        state: the agent's saved state, for resuming the turn.
    """

    def __init__(self, new_id: NewId) -> None:
        self.calls: dict[str, ToolCallRecord] = {}
        self.approvals: dict[str, PendingCall] = {}
        self.state: Mapping[str, Any] | None = None
        self._new_id = new_id
        self._arguments: dict[str, str] = {}
        self._view = Presentation("hidden")
        self._reducer = Reducer()

    def feed(self, items: list[Item]) -> list[Item]:
        """Add items of the agent; return the items to show in a single message."""
        for item in items:
            if isinstance(item, ToolCallReady) and item.executor == "agent":
                self._start_call(item.call_id, item.name, item.arguments)
            elif isinstance(item, ToolResult):
                self._end_call(item)
            elif isinstance(item, Paused):
                self._add_approvals(item)
        # The stored text equals the shown text: breaks between messages are blank lines in both.
        shown = self._view.show(items)
        self._reducer.feed(shown)
        return shown

    def _start_call(self, call_id: str, name: str, arguments: str) -> None:
        self._arguments[call_id] = arguments
        self.calls[call_id] = {
            "id": call_id,
            "name": name,
            "arguments": decode_arguments(arguments),
            "status": "pending",
        }

    def _end_call(self, result: ToolResult) -> None:
        call = self.calls.get(result.call_id)
        if call is not None:
            call["status"] = status_of(result)
            call["result"] = result.output

    def _add_approvals(self, paused: Paused) -> None:
        self.state = paused.state
        for call in paused.pending:
            if call.waits_for == "approval":
                self.approvals[self._new_id("appr_")] = call
                self._start_call(call.call_id, call.name, call.arguments)

    @property
    def final(self) -> FinalMessage:
        """The final message so far."""
        return self._reducer.message()

    @property
    def finish_reason(self) -> FinishReason:
        """The turn's finish reason in this API's terms, which include one for approvals."""
        return "approval-required" if self.approvals else REASONS[self.final.finish_reason]

    @property
    def compaction(self) -> RestCompaction | None:
        """The summary that replaced the beginning of an overlong conversation."""
        summary = self.final.compacted
        return None if summary is None else {"summary": summary}

    def user_items(self, new: Iterable[TypedMessage], about: Mapping[str, Any]) -> list[StoredItem]:
        """Convert the client's messages to stored items."""
        items = [item for message in new for item in items_of(message, self._new_id)]
        return [{**item, EXTENSION_KEY: dict(about)} if item["type"] == "message" else item for item in items]

    def reply_items(self, agent: str, about: Mapping[str, Any]) -> list[StoredItem]:
        """Convert the agent's output to stored items: a compaction first, the message last."""
        final = self.final
        items = [] if final.compacted is None else [compaction_item(final.compacted, self._new_id)]
        # A call that waits is stored only as its approval request until it is decided.
        asked = {call.call_id for call in self.approvals.values()}
        items += [self._call_item(call, agent) for call in self.calls.values() if call["id"] not in asked]
        items += [_approval_item(identifier, call, agent) for identifier, call in self.approvals.items()]
        said = items_of(reply_message(final, frozenset()), self._new_id)
        # A turn without text still stores an empty message, which holds model, provider and usage.
        if not any([item["type"] == "message" for item in said]):
            content = [output_text("")]
            empty = {"type": "message", "status": "completed", "role": "assistant", "content": content}
            said.insert(0, {"id": self._new_id("msg_"), **empty})
        return [*items, *[{**item, EXTENSION_KEY: dict(about)} if item["type"] == "message" else item for item in said]]

    def _call_item(self, call: ToolCallRecord, agent: str) -> StoredItem:
        failed = call["status"] != "success"
        # Always with a result: other APIs on the same conversation reject a call without one.
        text = call.get("result", "The agent has ended before it.")
        # In OpenAI's types a denied call has failed too; EXTENSION_KEY distinguishes the two.
        error = {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": text}]}
        return {
            "id": self._new_id("mcp_"),
            "type": "mcp_call",
            "status": "failed" if failed else "completed",
            "server_label": agent,
            "name": call["name"],
            "arguments": self._arguments[call["id"]],
            "output": None if failed else text,
            "error": error if failed else None,
            "call_id": call["id"],
            EXTENSION_KEY: {"status": call["status"] if call["status"] != "pending" else "error"},
        }


def status_of(result: ToolResult) -> Any:
    """Return the status of a call."""
    return "denied" if result.denied else "error" if result.is_error else "success"


def _approval_item(identifier: str, call: PendingCall, agent: str) -> StoredItem:
    return {
        "id": identifier,
        "type": "mcp_approval_request",
        "server_label": agent,
        "name": call.name,
        "arguments": call.arguments,
        "call_id": call.call_id,
    }


def decode_arguments(arguments: str) -> Any:
    """Decode a tool's arguments from JSON; invalid JSON is returned as text."""
    try:
        return json.loads(arguments) if arguments else {}
    except (ValueError, RecursionError):
        return arguments


def usage_of(usage: Usage) -> TokenUsage:
    """Return the token usage in this API's format."""
    return {
        "promptTokens": usage.input_tokens,
        "completionTokens": usage.output_tokens,
        "totalTokens": usage.input_tokens + usage.output_tokens,
    }


def iso_time(seconds: float) -> str:
    """Format a unix time as ISO 8601 in milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def title_from(text: str) -> str:
    """Return the title of a conversation from its first text."""
    line = " ".join(text.split())
    return line if len(line) <= TITLE_LENGTH else line[:TITLE_LENGTH] + "..."


def conversation_of(identifier: str, metadata: Mapping[str, str], created: float, touched: float) -> RestConversation:
    """Return the API's representation of a conversation."""
    shown: RestConversation = {
        "id": identifier,
        "title": metadata.get("title", UNTITLED),
        "presetId": metadata.get("presetId"),
        "createdAt": iso_time(created),
        "updatedAt": iso_time(touched),
    }
    for name in ("taskId", "ticketId", "projectId"):
        if name in metadata:
            shown[name] = metadata[name]
    return shown


def groups_of(items: Iterable[StoredItem]) -> list[list[StoredItem]]:
    """Group items into messages: consecutive output of the agent forms one message."""
    groups: list[list[StoredItem]] = []
    for item in items:
        kind, spoken = item.get("type"), _is_from_agent(item)
        # A summary replaces messages that are still shown here.
        if kind == "compaction" or not (spoken or kind in ("message", None) or kind in OUTPUT_ITEM_TYPES):
            continue
        if groups and (kind in OUTPUT_ITEM_TYPES or (spoken and _is_from_agent(groups[-1][0]))):
            groups[-1].append(item)
        elif kind not in OUTPUT_ITEM_TYPES:
            groups.append([item])
    return groups


def _is_from_agent(item: StoredItem) -> bool:
    return item.get("type") in AGENT_ITEM_TYPES or item.get("role") == "assistant"


def message_id(group: Sequence[StoredItem]) -> str:
    """Return the id of a message."""
    # The message item's id is preferred over that of reasoning or a call: the client already received it.
    said = [item for item in group if item.get("type") in ("message", None)]
    return str((said or group)[0]["id"])


def messages_of(conversation: str, items: Sequence[StoredItem], created: str) -> list[Message]:
    """Return a conversation's messages; `created` is the fallback for messages without a time."""
    # A decided approval request is shown as the call that it led to.
    settled = {
        item.get(name)
        for item in items
        if item.get("type") == "mcp_call"
        for name in ("call_id", "approval_request_id")
    }
    return [_message(conversation, group, created, settled) for group in groups_of(items)]


def _message(conversation: str, group: Sequence[StoredItem], created: str, settled: set[Any]) -> Message:
    said = [item for item in group if item.get("type") in ("message", None)]
    about: dict[str, Any] = said[0].get(EXTENSION_KEY, {}) if said else {}
    role: Literal["user", "assistant", "system"]
    role = "assistant" if _is_from_agent(group[0]) else "user" if said[0].get("role") == "user" else "system"
    texts = [text for item in said if (text := _text_of(item))]
    shown: Message = {
        "id": message_id(group),
        "conversationId": conversation,
        "role": role,
        "content": "\n\n".join(texts),
        "createdAt": about.get("createdAt", created),
    }
    if role == "assistant":
        _add_turn_data(shown, about, group, settled)
    return shown


def _add_turn_data(shown: Message, about: Mapping[str, Any], group: Sequence[StoredItem], settled: set[Any]) -> None:
    if "model" in about:
        shown["model"], shown["provider"] = about["model"], about["provider"]
        shown["tokenUsage"] = about["tokenUsage"]
    thoughts = ["\n\n".join(_part_texts(item.get("summary"))) for item in group if item.get("type") == "reasoning"]
    if any(thoughts):
        shown["thinking"] = "\n\n".join(filter(None, thoughts))
    calls = [_call_record(item, settled) for item in group if item.get("type") in ("mcp_call", "mcp_approval_request")]
    known = [call for call in calls if call is not None]
    if known:
        shown["toolCalls"] = known


def _call_record(item: StoredItem, settled: set[Any]) -> ToolCallRecord | None:
    """Return the API's representation of a call; None for an approval request whose call has ended."""
    call_id = str(item.get("call_id") or item["id"])
    call: ToolCallRecord = {
        "id": call_id,
        "name": str(item.get("name")),
        "arguments": decode_arguments(str(item.get("arguments") or "")),
        "status": "pending",
    }
    if item["type"] == "mcp_approval_request":
        return None if call_id in settled or item["id"] in settled else call
    about = cast("dict[str, Any]", item.get(EXTENSION_KEY) or {})
    # Calls made through other APIs lack this API's data; failed ones have an error.
    call["status"] = about.get("status") or ("error" if item.get("error") else "success")
    error = cast("dict[str, Any]", item.get("error") or {})
    call["result"] = item.get("output") or "\n".join(_part_texts(error.get("content")))
    return call


def _part_texts(parts: Iterable[dict[str, Any]] | None) -> list[str]:
    return [str(part.get("text", "")) for part in parts or ()]


def _text_of(item: StoredItem) -> str:
    content = item.get("content")
    if isinstance(content, str):
        return content
    parts = cast("list[dict[str, Any]]", content or [])
    return "\n".join([str(part.get("text") or part.get("refusal") or "") for part in parts])
