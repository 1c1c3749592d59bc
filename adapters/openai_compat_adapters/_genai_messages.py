"""Messages as JSON for span attributes, in the form of OpenTelemetry's GenAI conventions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, assert_never

from openai_compat import AgentEvent, AgentRequest
from openai_compat.agent_request import FunctionTool
from openai_compat.events import ReasoningDelta, TextDelta, ToolCallReady
from openai_compat.messages import (
    AssistantMessage,
    AudioPart,
    FilePart,
    ImagePart,
    InputPart,
    Message,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)

Part = dict[str, Any]


def system_instructions(request: AgentRequest) -> str | None:
    """The system messages; None if there are none."""
    said = [{"type": "text", "content": one.text} for one in request.messages if isinstance(one, SystemMessage)]
    return json.dumps(said) if said else None


def input_messages(request: AgentRequest) -> str:
    """The messages of a request, without the system messages."""
    return json.dumps([_message_json(one) for one in request.messages if not isinstance(one, SystemMessage)])


def output_messages(said: Iterable[AgentEvent | str], finish: str | None) -> str:
    """The agent's output, as one assistant message."""
    text, thought, calls = "", "", list[Part]()
    for item in said:
        if isinstance(item, str):
            text += item
        elif isinstance(item, TextDelta):
            text += item.text
        elif isinstance(item, ReasoningDelta):
            thought += item.text
        elif isinstance(item, ToolCallReady):
            calls.append(_tool_call_part(item.call_id, item.name, item.arguments))
    parts = [{"type": "reasoning", "content": thought}] if thought else []
    parts += [{"type": "text", "content": text}] if text else []
    return json.dumps([{"role": "assistant", "parts": [*parts, *calls], "finish_reason": finish or "error"}])


def tool_definitions(request: AgentRequest) -> str | None:
    """The client's tools; None if it has none."""
    tools = [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": dict(tool.parameters or {}) if isinstance(tool, FunctionTool) else None,
        }
        for tool in request.tools
    ]
    return json.dumps(tools) if tools else None


def _message_json(message: Message) -> Part:
    match message:
        case SystemMessage():
            return {"role": "system", "parts": [{"type": "text", "content": message.text}]}
        case UserMessage():
            return {"role": "user", "parts": [_part_json(part) for part in message.parts]}
        case AssistantMessage():
            said = [
                {"type": "text", "content": part.refusal if isinstance(part, RefusalPart) else part.text}
                for part in message.parts
            ]
            calls = [_tool_call_part(call.call_id, call.name, call.arguments) for call in message.tool_calls]
            return {"role": "assistant", "parts": [*said, *calls]}
        case ToolMessage():
            answer = {"type": "tool_call_response", "id": message.call_id, "response": message.text}
            return {"role": "tool", "parts": [answer, *[_part_json(part) for part in message.media]]}
        case _:
            assert_never(message)


def _part_json(part: InputPart) -> Part:
    match part:
        case TextPart():
            return {"type": "text", "content": part.text}
        case ImagePart():
            # Megabytes do not belong in an attribute.
            if part.url.startswith("data:"):
                return {"type": "blob", "modality": "image"}
            return {"type": "uri", "modality": "image", "uri": part.url}
        case AudioPart():
            return {"type": "blob", "modality": "audio"}
        case FilePart():
            return {"type": "file", "file_id": part.file_id or part.filename}
        case _:
            assert_never(part)


def _tool_call_part(call_id: str, name: str, arguments: str) -> Part:
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}
