"""A conversation as agents get it: typed messages with typed parts, whatever API the client spoke."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = (
    "AssistantMessage",
    "AssistantPart",
    "AudioPart",
    "FilePart",
    "ImagePart",
    "InputPart",
    "Message",
    "RefusalPart",
    "SystemMessage",
    "TextPart",
    "ToolCall",
    "ToolMessage",
    "UserMessage",
    "text_message",
    "text_of",
)


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text, of a user or of the assistant."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A picture by URL, `data:` URLs included. The server passes URLs on and fetches none."""

    url: str
    detail: Literal["auto", "low", "high", "original"] = "auto"


@dataclass(frozen=True, slots=True)
class AudioPart:
    """Speech: `data` is base64 text, `format` such as "wav" or "mp3"."""

    data: str
    format: str


@dataclass(frozen=True, slots=True)
class FilePart:
    """A document: base64 `file_data` (or a `data:` URL), the id of an uploaded file, or a URL, which is not fetched."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None
    file_url: str | None = None


@dataclass(frozen=True, slots=True)
class RefusalPart:
    """A refusal of the assistant."""

    refusal: str


InputPart: TypeAlias = TextPart | ImagePart | AudioPart | FilePart
AssistantPart: TypeAlias = TextPart | RefusalPart


@dataclass(frozen=True, slots=True)
class SystemMessage:
    """Instructions, with the role that the client used for them."""

    text: str
    role: Literal["system", "developer"] = "system"
    name: str | None = None


@dataclass(frozen=True, slots=True)
class UserMessage:
    """A message of the user."""

    parts: tuple[InputPart, ...]
    name: str | None = None

    @property
    def text(self) -> str:
        """Its text parts, one to a line."""
        return text_of(self.parts)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the assistant made for the client to run.

    `arguments` is JSON text, or a custom tool's input. The result of a `deferred` call (of a tool declared with
    `"async": true`) may come in any later request, or never.
    """

    call_id: str
    name: str
    arguments: str
    kind: Literal["function", "custom"] = "function"
    deferred: bool = False


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    """An earlier message of the assistant, and the calls it made."""

    parts: tuple[AssistantPart, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str | None = None
    name: str | None = None

    @property
    def text(self) -> str:
        """Its text parts, one to a line."""
        return text_of(self.parts)


@dataclass(frozen=True, slots=True)
class ToolMessage:
    """The client's result of one call; `name` is the tool's, taken from the call it answers.

    `media` are the pictures, speech and documents in it. `is_error` says that the tool has failed, in APIs that tell.
    """

    call_id: str
    text: str
    name: str
    media: tuple[ImagePart | AudioPart | FilePart, ...] = ()
    is_error: bool = False


Message: TypeAlias = SystemMessage | UserMessage | AssistantMessage | ToolMessage


def text_of(parts: Sequence[InputPart | AssistantPart]) -> str:
    """The text of the text parts, one to a line."""
    return "\n".join([part.text for part in parts if isinstance(part, TextPart)])


def text_message(raw: Mapping[str, Any]) -> Message:
    """The message of a chat message that has `role` and a text as `content`, and nothing else."""
    role, text = raw["role"], raw["content"]
    if role == "user":
        return UserMessage((TextPart(text),))
    if role == "assistant":
        return AssistantMessage((TextPart(text),) if text else ())
    return SystemMessage(text, role)
