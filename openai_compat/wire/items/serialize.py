"""Typed messages as the Responses API writes them: how conversations are stored, and what clients list."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, assert_never

from ...messages import (
    AssistantMessage,
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
from ..chat_messages import chat_message
from .parse import NewId, parse_items
from .types import ID_PREFIXES, OTHER_PREFIX, WITH_STATUS


def items_of(message: Message, new_id: NewId, custom_calls: Collection[str] = ()) -> list[dict[str, Any]]:
    """`message` as items, of which `parse_items` makes the same message again.

    `custom_calls` are the ids of calls of custom tools: their results are items of a type of their own.
    """
    match message:
        case SystemMessage():
            return [_message(message.role, [_part(TextPart(message.text))], message.name, new_id)]
        case UserMessage():
            return [_message("user", [_part(part) for part in message.parts], message.name, new_id)]
        case AssistantMessage():
            return _assistant(message, new_id)
        case ToolMessage():
            return [_result(message, new_id, custom=message.call_id in custom_calls)]
        case _:
            assert_never(message)


def chat_messages_of(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Stored or sent items as the chat API writes the conversation."""
    return [chat_message(message) for message in parse_items(items)]


def compaction_item(summary: str, new_id: NewId) -> dict[str, Any]:
    """The item that takes the place of what was said before, with a summary of it."""
    # In the field that OpenAI encrypts, so that clients hand it back unread; here it is their own text.
    content = base64.b64encode(json.dumps({"summary": summary}).encode()).decode()
    return _item("compaction", new_id, encrypted_content=content)


def output_text(text: str) -> dict[str, Any]:
    """A part of an assistant's message, with both of the lists that it must have."""
    # Both lists, though empty: SDKs read them without asking whether they are there.
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _item(kind: str, new_id: NewId, **fields: Any) -> dict[str, Any]:
    status = {"status": "completed"} if kind in WITH_STATUS else {}
    return {"id": new_id(ID_PREFIXES.get(kind, OTHER_PREFIX)), "type": kind, **status, **fields}


def _message(role: str, content: list[dict[str, Any]], name: str | None, new_id: NewId) -> dict[str, Any]:
    named = {} if name is None else {"name": name}  # chat has names, the Responses API has not
    return _item("message", new_id, role=role, content=content, **named)


def _part(part: InputPart) -> dict[str, Any]:
    match part:
        case TextPart():
            return {"type": "input_text", "text": part.text}
        case ImagePart():
            return {"type": "input_image", "image_url": part.url, "detail": part.detail}
        case AudioPart():
            return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
        case FilePart():
            fields = {
                "file_data": part.file_data,
                "file_id": part.file_id,
                "filename": part.filename,
                "file_url": part.file_url,
            }
            return {"type": "input_file", **{key: value for key, value in fields.items() if value is not None}}
        case _:
            assert_never(part)


def _assistant(message: AssistantMessage, new_id: NewId) -> list[dict[str, Any]]:
    """Thoughts, then words, then calls. A message without any of them, or with thoughts alone, has an empty item."""
    items: list[dict[str, Any]] = []
    if message.reasoning is not None:
        summary = [{"type": "summary_text", "text": message.reasoning}]
        items.append(_item("reasoning", new_id, summary=summary))
    if message.parts or message.name is not None or not message.tool_calls:
        content = [
            {"type": "refusal", "refusal": part.refusal} if isinstance(part, RefusalPart) else output_text(part.text)
            for part in message.parts
        ]
        items.append(_message("assistant", content, message.name, new_id))
    return [*items, *[_call(call, new_id) for call in message.tool_calls]]


def _call(call: ToolCall, new_id: NewId) -> dict[str, Any]:
    later = {"async": True} if call.deferred else {}
    if call.kind == "custom":
        fields = {"call_id": call.call_id, "name": call.name, "input": call.arguments}
        return _item("custom_tool_call", new_id, **fields, **later)
    fields = {"call_id": call.call_id, "name": call.name, "arguments": call.arguments}
    return _item("function_call", new_id, **fields, **later)


def _result(message: ToolMessage, new_id: NewId, *, custom: bool) -> dict[str, Any]:
    output = [_part(part) for part in (TextPart(message.text), *message.media)] if message.media else message.text
    named = {"name": message.name} if message.name else {}
    kind = "custom_tool_call_output" if custom else "function_call_output"
    return _item(kind, new_id, call_id=message.call_id, output=output, **named)
