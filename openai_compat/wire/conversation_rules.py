"""Converts chat messages from the wire into the typed conversation that agents receive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from ..errors import InvalidRequest
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
    text_of,
)
from .chat.request_types import (
    AssistantMessageParam,
    AudioContent,
    ChatFileContent,
    ChatImageContent,
    ChatTextContent,
    CustomCallParam,
    FunctionCallParam,
    MessageParam,
    ToolMessageParam,
    UserContent,
    UserMessageParam,
)


def parse_messages(params: Sequence[MessageParam]) -> tuple[Message, ...]:
    """Return the messages, oldest first; a tool result takes its tool name from the matching earlier call, if any."""
    names: dict[str, str] = {}
    messages: list[Message] = []
    for index, param in enumerate(params):
        if isinstance(param, UserMessageParam):
            messages.append(UserMessage(_user_parts(param.content), param.name))
        elif isinstance(param, AssistantMessageParam):
            messages.append(_assistant_message(param, names, index))
        elif isinstance(param, ToolMessageParam):
            parts = _user_parts(param.content)
            media = tuple([part for part in parts if not isinstance(part, TextPart)])
            name = names.get(param.tool_call_id, "")
            messages.append(ToolMessage(param.tool_call_id, text_of(parts), name, media))
        else:
            content = param.content
            text = content if isinstance(content, str) else "\n".join([part.text for part in content])
            messages.append(SystemMessage(text, param.role, param.name))
    return tuple(messages)


def _assistant_message(param: AssistantMessageParam, names: dict[str, str], index: int) -> AssistantMessage:
    calls: tuple[ToolCall, ...] = ()
    if param.tool_calls or param.function_call is not None:
        _check_calls(param, f"messages[{index}]")
        calls = tuple([_to_tool_call(call) for call in param.tool_calls or ()])
        names |= {call.call_id: call.name for call in calls}
    return AssistantMessage(_assistant_parts(param), calls, param.reasoning_content, param.name)


def _check_calls(param: AssistantMessageParam, where: str) -> None:
    if param.function_call is not None:
        text = "'function_call' is deprecated and not supported; use 'tool_calls'."
        raise InvalidRequest(text, param=f"{where}.function_call", code="unsupported_parameter")
    seen: set[str] = set()
    for index, call in enumerate(param.tool_calls or ()):
        # A result refers to its call by id only.
        if call.id in seen:
            text = "Each tool call of a message needs an id of its own."
            raise InvalidRequest(text, param=f"{where}.tool_calls[{index}].id", code="invalid_value")
        seen.add(call.id)


def check_conversation(messages: Sequence[Message]) -> None:
    """Raise InvalidRequest if a tool call has no result or a tool result has no call."""
    pending: set[str] = set()
    deferred: set[str] = set()
    asked_at = 0
    for index, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            # Models reject such a conversation; an error raised here tells the client which message is wrong.
            if message.call_id not in pending | deferred:
                text = "A message with role 'tool' must answer a tool call of the assistant message before it, once."
                raise InvalidRequest(text, param=f"messages[{index}].tool_call_id", code="invalid_value")
            (pending if message.call_id in pending else deferred).discard(message.call_id)
            continue
        # Model APIs require all results before the next message; only those of `"async": true` calls may come later.
        if pending:
            _expect_no_open_call(pending, asked_at)
        if isinstance(message, AssistantMessage) and message.tool_calls:
            asked_at, pending = index, {call.call_id for call in message.tool_calls if not call.deferred}
            deferred |= {call.call_id for call in message.tool_calls if call.deferred}
    _expect_no_open_call(pending, asked_at)


def _expect_no_open_call(pending: set[str], asked_at: int) -> None:
    if pending:
        text = "An assistant message with 'tool_calls' must be followed by one tool message for each of them."
        raise InvalidRequest(text, param=f"messages[{asked_at}].tool_calls", code="invalid_value")


def _user_parts(content: str | list[UserContent]) -> tuple[InputPart, ...]:
    if isinstance(content, str):
        return (TextPart(content),)
    return tuple([_user_part(part) for part in content])


def _user_part(part: ChatTextContent | ChatImageContent | AudioContent | ChatFileContent) -> InputPart:
    match part:
        case ChatTextContent():
            return TextPart(part.text)
        case ChatImageContent():
            return ImagePart(part.image_url.url, part.image_url.detail or "auto")
        case AudioContent():
            return AudioPart(part.input_audio.data, part.input_audio.format)
        case ChatFileContent():
            return FilePart(part.file.file_data, part.file.file_id, part.file.filename, part.file.file_url)
        case _:
            assert_never(part)


def _assistant_parts(param: AssistantMessageParam) -> tuple[AssistantPart, ...]:
    content, refusal = param.content, param.refusal
    if isinstance(content, str):
        parts: list[AssistantPart] = [TextPart(content)] if content or refusal else []
    else:
        parts = [
            TextPart(part.text) if isinstance(part, ChatTextContent) else RefusalPart(part.refusal)
            for part in content or ()
        ]
    return (*parts, RefusalPart(refusal)) if refusal else tuple(parts)


def _to_tool_call(call: FunctionCallParam | CustomCallParam) -> ToolCall:
    deferred = getattr(call, "async", None) is True
    if isinstance(call, FunctionCallParam):
        return ToolCall(call.id, call.function.name, call.function.arguments, deferred=deferred)
    return ToolCall(call.id, call.custom.name, call.custom.input, "custom", deferred=deferred)
