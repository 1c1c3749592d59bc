"""Converts Ollama's messages to the typed messages that agents receive, one for one."""

from __future__ import annotations

from collections.abc import Sequence

from ...agent_request import Resume
from ...errors import InvalidRequest
from ...messages import (
    AssistantMessage,
    ImagePart,
    InputPart,
    Message,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from ..conversation_rules import check_conversation
from ..json import dumps
from .request_types import CalledFunction, OllamaMessage

MEDIA_TYPES = {"iVBORw0KGgo": "image/png", "R0lGOD": "image/gif", "UklGR": "image/webp", "/9j/": "image/jpeg"}
"""Maps base64 prefixes of images to media types, which Ollama's API does not send."""


class OllamaConversation:
    """Reads the messages of one request, in order.

    Attributes:
        messages: the messages read so far.
        pictures: the paths of images in the request.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.pictures: list[str] = []
        self._ids: set[str] = set()
        self._calls = 0
        self._open: list[ToolCall] = []

    def read(self, params: Sequence[OllamaMessage]) -> None:
        """Read the messages. Raises InvalidRequest for a result without a call, and for a call without a result."""
        for index, param in enumerate(params):
            self.messages.append(self._to_message(param, f"messages[{index}]"))
        check_conversation(self.messages)
        if all([isinstance(message, SystemMessage) for message in self.messages]):
            raise InvalidRequest("No user message found in 'messages'.", param="messages")

    def _to_message(self, param: OllamaMessage, where: str) -> Message:
        match param.role:
            case "system":
                return SystemMessage(param.content or "")
            case "user":
                return UserMessage(self.to_parts(param.content, param.images or (), where))
            case "assistant":
                calls = tuple([self._to_tool_call(call.id, call.function) for call in param.tool_calls or ()])
                self._open = list(calls)
                parts = (TextPart(param.content),) if param.content else ()
                return AssistantMessage(parts, calls, param.thinking or None)
            case "tool":
                call = self._find_call(param, where)
                media = self.to_parts(None, param.images or (), where)
                seen = tuple([part for part in media if not isinstance(part, TextPart)])
                return ToolMessage(call.call_id, param.content or "", call.name, seen)

    def to_parts(self, text: str | None, images: Sequence[str], where: str) -> tuple[InputPart, ...]:
        """Convert a text and its images, which are bare base64."""
        prefix = f"{where}." if where else ""
        places = [f"{prefix}images[{index}]" for index in range(len(images))]
        self.pictures += places
        pictures = [_image_part(image, place) for image, place in zip(images, places, strict=True)]
        return (*([TextPart(text or "")] if text or not images else []), *pictures)

    def _to_tool_call(self, identifier: str | None, function: CalledFunction) -> ToolCall:
        """Convert a call in the history. A call without an id gets one by its position, which later requests reproduce."""
        self._calls += 1
        number = self._calls
        while not identifier or identifier in self._ids:
            identifier, number = f"call_{number}", number + 1
        self._ids.add(identifier)
        return ToolCall(identifier, function.name, dumps(function.arguments).decode())

    def _find_call(self, param: OllamaMessage, where: str) -> ToolCall:
        """Return the open call that a result belongs to: by id, else the next one of the tool, else the next one."""
        ways = (
            [call for call in self._open if call.call_id == param.tool_call_id],
            [call for call in self._open if call.name == param.tool_name],
            self._open,
        )
        call = next((found[0] for found in ways if found), None)
        if call is None:
            text = "A message with role 'tool' must answer a tool call of the assistant message before it, once."
            raise InvalidRequest(text, param=where, code="invalid_value")
        self._open.remove(call)
        return call


def resume_of(messages: Sequence[Message]) -> Resume | None:
    """Return the tool results at the end of the conversation, with which the agent resumes its paused turn."""
    results: list[ToolMessage] = []
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            results.append(message)
        elif not isinstance(message, SystemMessage):
            break
    return Resume({result.call_id: result for result in reversed(results)}) if results else None


def _image_part(image: str, where: str) -> ImagePart:
    if image.startswith(("http:", "https:", "data:")):
        text = "A picture is sent as base64 text here, without a URL."
        raise InvalidRequest(text, param=where, code="invalid_value")
    kind = next((kind for begin, kind in MEDIA_TYPES.items() if image.startswith(begin)), "image/png")
    return ImagePart(f"data:{kind};base64,{image}")
