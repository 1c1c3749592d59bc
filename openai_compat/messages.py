"""The conversation as agents see it: typed messages with typed parts, the same for every API."""

from __future__ import annotations

import base64
import binascii
import json
import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, TypeAlias, cast
from urllib.parse import unquote_to_bytes

from .errors import InvalidRequest

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
    "Thought",
    "ToolCall",
    "ToolMessage",
    "UserMessage",
    "UserTurn",
    "plain_messages",
    "text_of",
    "transcript",
    "turns_of",
)

# OpenAI's format names that are not media types: RFC 3003 has `audio/mpeg`, and pcm16 is bare samples.
_AUDIO_TYPES = {"mp3": "audio/mpeg", "pcm16": "audio/pcm"}
"""Media types of audio formats whose OpenAI name differs."""


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text from the user or the assistant."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image by URL, which may be a `data:` URL. The server passes URLs on and never fetches them."""

    url: str
    detail: Literal["auto", "low", "high", "original"] = "auto"

    @property
    def media_type(self) -> str | None:
        """The media type in a `data:` URL, for instance "image/png"; None for other URLs."""
        return _media_type(self.url)

    @property
    def content(self) -> bytes | None:
        """The bytes of a `data:` URL; None for other URLs. Raises InvalidRequest for a malformed one."""
        return _data_url_bytes(self.url)


@dataclass(frozen=True, slots=True)
class AudioPart:
    """Speech: `data` is base64 text, `format` for instance "wav" or "mp3"."""

    data: str
    format: str

    @property
    def media_type(self) -> str:
        """The media type of the format, for instance "audio/wav"."""
        return _AUDIO_TYPES.get(self.format, f"audio/{self.format}")

    @property
    def content(self) -> bytes:
        """The decoded bytes. Raises InvalidRequest for malformed base64."""
        return _decode_base64(self.data)


@dataclass(frozen=True, slots=True)
class FilePart:
    """A document: base64 `file_data` (or a `data:` URL), the id of an uploaded file, or a URL, which is never fetched."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None
    file_url: str | None = None

    @property
    def media_type(self) -> str | None:
        """The media type in the `data:` URL, else by the file name; None if neither has one."""
        guessed = mimetypes.guess_type(self.filename)[0] if self.filename else None
        return _media_type(self.file_data or "") or guessed

    @property
    def content(self) -> bytes | None:
        """The bytes of `file_data`; None without it. Raises InvalidRequest for malformed data."""
        if self.file_data is None:
            return None
        return _data_url_bytes(self.file_data) if _is_data_url(self.file_data) else _decode_base64(self.file_data)


@dataclass(frozen=True, slots=True)
class RefusalPart:
    """The text of a refusal by the assistant."""

    refusal: str


InputPart: TypeAlias = TextPart | ImagePart | AudioPart | FilePart
AssistantPart: TypeAlias = TextPart | RefusalPart


@dataclass(frozen=True, slots=True)
class SystemMessage:
    """Instructions, with the role that the client gave them."""

    text: str
    role: Literal["system", "developer"] = "system"
    name: str | None = None


@dataclass(frozen=True, slots=True)
class UserMessage:
    """A message from the user."""

    parts: tuple[InputPart, ...]
    name: str | None = None

    @property
    def text(self) -> str:
        """The text parts, joined by newlines."""
        return text_of(self.parts)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call of the assistant, for the client to run.

    `arguments` is JSON text, or the input of a custom tool. The result of a `deferred` call (of a tool declared with
    `"async": true`) may arrive in any later request, or never.
    """

    call_id: str
    name: str
    arguments: str
    kind: Literal["function", "custom"] = "function"
    deferred: bool = False

    @property
    def input(self) -> dict[str, Any]:
        """The arguments as an object. Free text is under `input`; text that is not a JSON object is under `arguments`."""
        if self.kind == "custom":
            return {"input": self.arguments}
        # Models write invalid JSON, and nothing at all for calls without arguments: neither may break a conversation.
        try:
            read = json.loads(self.arguments or "{}")
        except ValueError:
            read = None
        return cast("dict[str, Any]", read) if isinstance(read, dict) else {"arguments": self.arguments}


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of earlier reasoning with the model's signature, from clients that send it back.

    A `redacted` piece has no text: the provider reveals nothing but its signature.
    """

    text: str
    signature: str
    redacted: bool = False


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    """An earlier message of the assistant, and the calls it made.

    `reasoning` is the reasoning before the message, as text. `thoughts` are the pieces that the agent's model has signed.
    """

    parts: tuple[AssistantPart, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str | None = None
    name: str | None = None
    thoughts: tuple[Thought, ...] = ()

    @property
    def text(self) -> str:
        """The text parts, joined by newlines."""
        return text_of(self.parts)


@dataclass(frozen=True, slots=True)
class ToolMessage:
    """The client's result of one call; `name` is the tool's name, taken from the call.

    `media` are the images, speech and documents in the result. `is_error` is True if the tool failed, in APIs that report it.
    """

    call_id: str
    text: str
    name: str
    media: tuple[ImagePart | AudioPart | FilePart, ...] = ()
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class UserTurn:
    """A turn of the user's side: results of the calls before it, then the user's own input."""

    results: tuple[ToolMessage, ...] = ()
    parts: tuple[InputPart, ...] = ()

    @property
    def text(self) -> str:
        """The text parts, joined by newlines."""
        return text_of(self.parts)


Message: TypeAlias = SystemMessage | UserMessage | AssistantMessage | ToolMessage


def text_of(parts: Sequence[InputPart | AssistantPart]) -> str:
    """Return the text of the text parts, joined by newlines."""
    return "\n".join([part.text for part in parts if isinstance(part, TextPart)])


def plain_messages(raw_messages: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Build typed messages from chat messages that contain only texts, function calls and results."""
    names: dict[str, str] = {}
    messages: list[Message] = []
    for raw in raw_messages:
        role, text = raw["role"], raw["content"]
        if role == "user":
            messages.append(UserMessage((TextPart(text),)))
        elif role == "assistant":
            calls = tuple(
                [
                    ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
                    for call in raw.get("tool_calls", ())
                ]
            )
            names |= {call.call_id: call.name for call in calls}
            messages.append(AssistantMessage((TextPart(text),) if text else (), calls))
        elif role == "tool":
            messages.append(ToolMessage(raw["tool_call_id"], text, names.get(raw["tool_call_id"], "")))
        else:
            messages.append(SystemMessage(text, role))
    return tuple(messages)


def turns_of(messages: Sequence[Message]) -> tuple[UserTurn | AssistantMessage, ...]:
    """Return the conversation without instructions, in turns that alternate between user and assistant.

    Consecutive messages of one side become one turn. Results stand at the start of the user's turn after their calls, as
    most model APIs require.
    """
    said = [message for message in messages if not isinstance(message, SystemMessage)]
    sides = [list(side) for _, side in groupby(said, lambda message: isinstance(message, AssistantMessage))]
    return tuple([_merge_side(side) for side in sides])


def _merge_side(side: Sequence[Message]) -> UserTurn | AssistantMessage:
    """Merge the messages of one side into one."""
    spoken = [message for message in side if isinstance(message, AssistantMessage)]
    if len(spoken) == 1:
        return spoken[0]
    if spoken:
        return AssistantMessage(
            tuple([part for message in spoken for part in message.parts]),
            tuple([call for message in spoken for call in message.tool_calls]),
            "\n\n".join([message.reasoning for message in spoken if message.reasoning]) or None,
            spoken[0].name,
            tuple([thought for message in spoken for thought in message.thoughts]),
        )
    results = tuple([message for message in side if isinstance(message, ToolMessage)])
    return UserTurn(results, tuple([part for m in side if isinstance(m, UserMessage) for part in m.parts]))


def transcript(messages: Sequence[Message]) -> str:
    """Return a conversation as text, each message below its speaker's name, for agents that accept a single text."""
    return "\n\n".join([f"{_speaker(message)}:\n{message.text}" for message in messages if message.text])


def _speaker(message: Message) -> str:
    match message:
        case SystemMessage():
            return "System"
        case UserMessage():
            return "User"
        case AssistantMessage():
            return "Assistant"
        case ToolMessage():
            return f"Result of {message.name}"


def _is_data_url(url: str) -> bool:
    return url[:5].lower() == "data:"  # schemes are case-insensitive (RFC 3986, 3.1)


def _media_type(url: str) -> str | None:
    """The media type in a `data:` URL; "text/plain" if it names none (RFC 2397), None for other URLs."""
    if not _is_data_url(url):
        return None
    return url[5:].partition(",")[0].partition(";")[0].strip().lower() or "text/plain"


def _data_url_bytes(url: str) -> bytes | None:
    if not _is_data_url(url):
        return None
    head, comma, data = url.partition(",")
    if not comma:
        raise _malformed()
    return _decode_base64(data) if "base64" in head.lower().split(";") else unquote_to_bytes(data)


def _decode_base64(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise _malformed() from None


def _malformed() -> InvalidRequest:
    text = "A 'data:' URL or the base64 of a picture, a document or speech is malformed."
    return InvalidRequest(text, param="messages", code="invalid_value")
