"""Converts messages to LangChain's format, and reads LangChain's values."""

from __future__ import annotations

import importlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic_core import from_json, to_json

from ...events import UsageReported
from ...messages import (
    AssistantMessage,
    AudioPart,
    FilePart,
    ImagePart,
    InputPart,
    Message,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)

lc: Any = importlib.import_module("langchain_core.messages")


def to_langchain_message(message: Message) -> Any:
    """Convert a message to LangChain's format."""
    match message:
        case SystemMessage():
            return lc.SystemMessage(message.text)
        case UserMessage():
            return lc.HumanMessage(_to_content(message.parts))
        case AssistantMessage():
            calls = [
                {"id": c.call_id, "name": c.name, "args": from_json(c.arguments or "{}")} for c in message.tool_calls
            ]
            return lc.AIMessage(message.text, tool_calls=calls)
        case ToolMessage():
            status = "error" if message.is_error else "success"
            content = _to_content((TextPart(message.text), *message.media)) if message.media else message.text
            return lc.ToolMessage(content, name=message.name, tool_call_id=message.call_id, status=status)


def _to_content(parts: Sequence[InputPart]) -> Any:
    if all([isinstance(part, TextPart) for part in parts]):
        return "\n".join([cast("TextPart", part).text for part in parts])
    return [_to_block(part) for part in parts]


def _to_block(part: InputPart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    kind = KINDS[type(part)]
    if part.content is None:
        return {"type": kind, "url": part.url if isinstance(part, ImagePart) else cast("FilePart", part).file_url}
    data = b64encode(part.content).decode()
    return {"type": kind, "base64": data, "mime_type": part.media_type or "application/pdf"}


KINDS: Mapping[type, str] = {ImagePart: "image", AudioPart: "audio", FilePart: "file"}
"""LangChain's names of the message parts."""


def to_usage(used: Mapping[str, Any]) -> UsageReported:
    """The token usage of a model call."""
    read: dict[str, int] = used.get("input_token_details") or {}
    thought: dict[str, int] = used.get("output_token_details") or {}
    return UsageReported(
        used["input_tokens"],
        used["output_tokens"],
        cached_tokens=read.get("cache_read"),
        reasoning_tokens=thought.get("reasoning"),
        cache_write_tokens=read.get("cache_creation"),
    )


def as_list(value: Any) -> list[Any]:
    """A list or tuple as a list; any other value as a list of one."""
    return list(cast("Any", value)) if isinstance(value, list | tuple) else [value]


def as_dict(value: Any) -> dict[str, Any]:
    """Return `value` if it is a dict, else an empty dict."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def json_text(value: Any) -> str:
    """A value as JSON; types that JSON does not have become strings."""
    return to_json(value, fallback=str).decode()
