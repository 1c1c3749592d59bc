"""Typed messages as the OpenAI chat API writes them: how conversations are stored, and what `messages` agents get."""

from __future__ import annotations

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
from ..reducer import FinalMessage


def chat_message(message: Message) -> dict[str, Any]:
    """`message` as a chat API object; keys that have nothing to say are left out."""
    match message:
        case SystemMessage():
            return _named({"role": message.role, "content": message.text}, message.name)
        case UserMessage():
            one = message.parts[0] if len(message.parts) == 1 else None
            # A single text goes as a string: some model servers take no list of parts.
            content = one.text if isinstance(one, TextPart) else [_part(part) for part in message.parts]
            return _named({"role": "user", "content": content}, message.name)
        case AssistantMessage():
            return _named(_assistant(message), message.name)
        case ToolMessage():
            return {"role": "tool", "tool_call_id": message.call_id, "content": _result_content(message)}
        case _:
            assert_never(message)


def reply_message(reply: FinalMessage, custom_tools: frozenset[str]) -> AssistantMessage:
    """A turn's outcome as the assistant's message in the history."""
    parts: list[AssistantPart] = [TextPart(reply.text)] if reply.text else []
    if reply.refusal:
        parts.append(RefusalPart(reply.refusal))
    calls = [
        ToolCall(c.call_id, c.name, c.arguments, "custom" if c.name in custom_tools else "function")
        for c in reply.client_calls
    ]
    return AssistantMessage(tuple(parts), tuple(calls), reply.reasoning or None)


def _named(fields: dict[str, Any], name: str | None) -> dict[str, Any]:
    return fields if name is None else {**fields, "name": name}


def _result_content(message: ToolMessage) -> str | list[dict[str, Any]]:
    if not message.media:
        return message.text
    texts = (TextPart(message.text),) if message.text else ()
    return [_part(part) for part in (*texts, *message.media)]


def _part(part: InputPart) -> dict[str, Any]:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            return {"type": "image_url", "image_url": {"url": part.url, "detail": part.detail}}
        case AudioPart():
            return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
        case FilePart():
            fields = {
                "file_data": part.file_data,
                "file_id": part.file_id,
                "filename": part.filename,
                "file_url": part.file_url,
            }
            return {"type": "file", "file": {key: value for key, value in fields.items() if value is not None}}
        case _:
            assert_never(part)


def _assistant(message: AssistantMessage) -> dict[str, Any]:
    refusals = [part.refusal for part in message.parts if isinstance(part, RefusalPart)]
    # Null beside calls, as OpenAI writes it; without any, some model servers refuse null.
    fields: dict[str, Any] = {"role": "assistant", "content": message.text or (None if message.tool_calls else "")}
    if refusals:
        fields["refusal"] = "\n".join(refusals)
    if message.tool_calls:
        fields["tool_calls"] = [raw_call(call) for call in message.tool_calls]
    if message.reasoning:
        # No official field: this is the name that clients and model servers read.
        fields["reasoning_content"] = message.reasoning
    return fields


def raw_call(call: ToolCall) -> dict[str, Any]:
    """`call` as an entry of `tool_calls`."""
    later = {"async": True} if call.deferred else {}
    if call.kind == "custom":
        return {"id": call.call_id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}, **later}
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.call_id, "type": "function", "function": function, **later}
