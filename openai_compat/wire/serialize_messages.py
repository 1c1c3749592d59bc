"""Encodes typed messages in OpenAI's formats: chat messages, and response items.

Conversations are stored as items, which clients can list; the `messages` that agents receive are chat messages.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, assert_never

from ..messages import (
    AssistantMessage,
    AssistantPart,
    AudioPart,
    FilePart,
    ImagePart,
    InputPart,
    Message,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from .items.parse import NewId, parse_items
from .items.types import ID_PREFIXES, OTHER_PREFIX, TYPES_WITH_STATUS
from .reducer import FinalMessage


def chat_message(message: Message) -> dict[str, Any]:
    """Return `message` as a chat API object; empty keys are left out."""
    match message:
        case SystemMessage():
            return _with_name({"role": message.role, "content": message.text}, message.name)
        case UserMessage():
            one = message.parts[0] if len(message.parts) == 1 else None
            # A single text is sent as a string: some model servers reject a list of parts.
            content = one.text if isinstance(one, TextPart) else [_chat_part(part) for part in message.parts]
            return _with_name({"role": "user", "content": content}, message.name)
        case AssistantMessage():
            return _with_name(_chat_assistant(message), message.name)
        case ToolMessage():
            return {"role": "tool", "tool_call_id": message.call_id, "content": _chat_result(message)}
        case _:
            assert_never(message)


def chat_messages_of(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Convert stored or received items to chat API messages."""
    return [chat_message(message) for message in parse_items(items)]


def reply_message(reply: FinalMessage, custom_tools: frozenset[str]) -> AssistantMessage:
    """Convert a turn's outcome to the assistant's message in the history."""
    parts: list[AssistantPart] = [TextPart(reply.text)] if reply.text else []
    if reply.refusal:
        parts.append(RefusalPart(reply.refusal))
    calls = [
        ToolCall(c.call_id, c.name, c.arguments, "custom" if c.name in custom_tools else "function")
        for c in reply.client_calls
    ]
    return AssistantMessage(tuple(parts), tuple(calls), reply.reasoning or None)


def _with_name(fields: dict[str, Any], name: str | None) -> dict[str, Any]:
    return fields if name is None else {**fields, "name": name}


def _chat_result(message: ToolMessage) -> str | list[dict[str, Any]]:
    if not message.media:
        return message.text
    texts = (TextPart(message.text),) if message.text else ()
    return [_chat_part(part) for part in (*texts, *message.media)]


def _chat_part(part: InputPart) -> dict[str, Any]:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            return {"type": "image_url", "image_url": {"url": part.url, "detail": part.detail}}
        case AudioPart():
            return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
        case FilePart():
            return {"type": "file", "file": _file_fields(part)}
        case _:
            assert_never(part)


def _chat_assistant(message: AssistantMessage) -> dict[str, Any]:
    refusals = [part.refusal for part in message.parts if isinstance(part, RefusalPart)]
    # Null beside calls, as at OpenAI; without calls, some model servers reject null.
    fields: dict[str, Any] = {"role": "assistant", "content": message.text or (None if message.tool_calls else "")}
    if refusals:
        fields["refusal"] = "\n".join(refusals)
    if message.tool_calls:
        fields["tool_calls"] = [raw_call(call) for call in message.tool_calls]
    if message.reasoning:
        # Not an official field: clients and model servers use this name.
        fields["reasoning_content"] = message.reasoning
    return fields


def raw_call(call: ToolCall) -> dict[str, Any]:
    """Return `call` as an entry of `tool_calls`."""
    later = {"async": True} if call.deferred else {}
    if call.kind == "custom":
        return {"id": call.call_id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}, **later}
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.call_id, "type": "function", "function": function, **later}


def _file_fields(part: FilePart) -> dict[str, str]:
    """Return the known fields of a file; both APIs use the same names."""
    fields = {
        "file_data": part.file_data,
        "file_id": part.file_id,
        "filename": part.filename,
        "file_url": part.file_url,
    }
    return {key: value for key, value in fields.items() if value is not None}


def items_of(message: Message, new_id: NewId, custom_calls: Collection[str] = ()) -> list[dict[str, Any]]:
    """Convert `message` to items; `parse_items` converts them back to the same message.

    `custom_calls` are the ids of custom tool calls: their results have an item type of their own.
    """
    match message:
        case SystemMessage():
            return [_message_item(message.role, [_item_part(TextPart(message.text))], message.name, new_id)]
        case UserMessage():
            return [_message_item("user", [_item_part(part) for part in message.parts], message.name, new_id)]
        case AssistantMessage():
            return _assistant_items(message, new_id)
        case ToolMessage():
            return [_result_item(message, new_id, custom=message.call_id in custom_calls)]
        case _:
            assert_never(message)


def compaction_item(summary: str, new_id: NewId) -> dict[str, Any]:
    """Return the item that replaces the earlier messages with their summary."""
    # In the field that OpenAI encrypts, so that clients return it unread; here it is plain base64.
    content = base64.b64encode(json.dumps({"summary": summary}).encode()).decode()
    return _new_item("compaction", new_id, encrypted_content=content)


def output_text(text: str) -> dict[str, Any]:
    """Return a text part of an assistant's message."""
    # Both lists are required, even if empty: SDKs read them unconditionally.
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _new_item(kind: str, new_id: NewId, **fields: Any) -> dict[str, Any]:
    status = {"status": "completed"} if kind in TYPES_WITH_STATUS else {}
    return {"id": new_id(ID_PREFIXES.get(kind, OTHER_PREFIX)), "type": kind, **status, **fields}


def _message_item(role: str, content: list[dict[str, Any]], name: str | None, new_id: NewId) -> dict[str, Any]:
    named = {} if name is None else {"name": name}  # chat has names, the Responses API has none
    return _new_item("message", new_id, role=role, content=content, **named)


def _item_part(part: InputPart) -> dict[str, Any]:
    match part:
        case TextPart():
            return {"type": "input_text", "text": part.text}
        case ImagePart():
            return {"type": "input_image", "image_url": part.url, "detail": part.detail}
        case AudioPart():
            return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
        case FilePart():
            return {"type": "input_file", **_file_fields(part)}
        case _:
            assert_never(part)


def _assistant_items(message: AssistantMessage, new_id: NewId) -> list[dict[str, Any]]:
    """Return reasoning, then text, then calls. A message with none of these, or with reasoning alone, has an empty item."""
    items: list[dict[str, Any]] = []
    if message.reasoning is not None:
        summary = [{"type": "summary_text", "text": message.reasoning}]
        items.append(_new_item("reasoning", new_id, summary=summary))
    if message.parts or message.name is not None or not message.tool_calls:
        content = [
            {"type": "refusal", "refusal": part.refusal} if isinstance(part, RefusalPart) else output_text(part.text)
            for part in message.parts
        ]
        items.append(_message_item("assistant", content, message.name, new_id))
    return [*items, *[_call_item(call, new_id) for call in message.tool_calls]]


def _call_item(call: ToolCall, new_id: NewId) -> dict[str, Any]:
    later = {"async": True} if call.deferred else {}
    if call.kind == "custom":
        fields = {"call_id": call.call_id, "name": call.name, "input": call.arguments}
        return _new_item("custom_tool_call", new_id, **fields, **later)
    fields = {"call_id": call.call_id, "name": call.name, "arguments": call.arguments}
    return _new_item("function_call", new_id, **fields, **later)


def _result_item(message: ToolMessage, new_id: NewId, *, custom: bool) -> dict[str, Any]:
    output = [_item_part(part) for part in (TextPart(message.text), *message.media)] if message.media else message.text
    named = {"name": message.name} if message.name else {}
    kind = "custom_tool_call_output" if custom else "function_call_output"
    return _new_item(kind, new_id, call_id=message.call_id, output=output, **named)
