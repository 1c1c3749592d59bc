"""A conversation as agents get it: typed messages with typed parts, whatever API the client spoke."""

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

# What OpenAI calls them, where that is no media type: RFC 3003 has `audio/mpeg`, and pcm16 is bare samples.
_AUDIO_TYPES = {"mp3": "audio/mpeg", "pcm16": "audio/pcm"}
"""The media types of speech whose format is called otherwise."""


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text, of a user or of the assistant."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A picture by URL, `data:` URLs included. The server passes URLs on and fetches none."""

    url: str
    detail: Literal["auto", "low", "high", "original"] = "auto"

    @property
    def media_type(self) -> str | None:
        """The type that a `data:` URL names, such as "image/png"; None for other URLs."""
        return _media_type(self.url)

    @property
    def content(self) -> bytes | None:
        """The bytes in a `data:` URL, None for other URLs. Raises InvalidRequest for a malformed one."""
        return _bytes_in(self.url)


@dataclass(frozen=True, slots=True)
class AudioPart:
    """Speech: `data` is base64 text, `format` such as "wav" or "mp3"."""

    data: str
    format: str

    @property
    def media_type(self) -> str:
        """The type by its format, such as "audio/wav"."""
        return _AUDIO_TYPES.get(self.format, f"audio/{self.format}")

    @property
    def content(self) -> bytes:
        """The bytes. Raises InvalidRequest for malformed base64."""
        return _decoded(self.data)


@dataclass(frozen=True, slots=True)
class FilePart:
    """A document: base64 `file_data` (or a `data:` URL), the id of an uploaded file, or a URL, which is not fetched."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None
    file_url: str | None = None

    @property
    def media_type(self) -> str | None:
        """The type that a `data:` URL names, else that of the file's name; None if neither tells."""
        guessed = mimetypes.guess_type(self.filename)[0] if self.filename else None
        return _media_type(self.file_data or "") or guessed

    @property
    def content(self) -> bytes | None:
        """The bytes of `file_data`, None without. Raises InvalidRequest for what is malformed."""
        if self.file_data is None:
            return None
        return _bytes_in(self.file_data) if _is_data_url(self.file_data) else _decoded(self.file_data)


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

    @property
    def input(self) -> dict[str, Any]:
        """The arguments as an object: free text as its `input`, JSON that is none or has gone wrong as its `arguments`."""
        if self.kind == "custom":
            return {"input": self.arguments}
        # Models write what is nearly JSON, and calls without arguments have none at all: neither may end a conversation.
        try:
            read = json.loads(self.arguments or "{}")
        except ValueError:
            read = None
        return cast("dict[str, Any]", read) if isinstance(read, dict) else {"arguments": self.arguments}


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of earlier thinking with the model's own proof of it, from clients that bring it back.

    A `redacted` one has no text: its signature is all that the model's provider tells of it.
    """

    text: str
    signature: str
    redacted: bool = False


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    """An earlier message of the assistant, and the calls it made.

    `reasoning` is what it thought before, as text. `thoughts` are those pieces of it that the agent's model has signed.
    """

    parts: tuple[AssistantPart, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str | None = None
    name: str | None = None
    thoughts: tuple[Thought, ...] = ()

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


@dataclass(frozen=True, slots=True)
class UserTurn:
    """What comes from the user's side at a time: results of the calls before it, then what the user says."""

    results: tuple[ToolMessage, ...] = ()
    parts: tuple[InputPart, ...] = ()

    @property
    def text(self) -> str:
        """Its text parts, one to a line."""
        return text_of(self.parts)


Message: TypeAlias = SystemMessage | UserMessage | AssistantMessage | ToolMessage


def text_of(parts: Sequence[InputPart | AssistantPart]) -> str:
    """The text of the text parts, one to a line."""
    return "\n".join([part.text for part in parts if isinstance(part, TextPart)])


def plain_messages(raw_messages: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """The messages of chat messages that are texts, calls of functions and their results, with no other field."""
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
    """The conversation without instructions, in turns: the user's side, the assistant, the user's side and so on.

    Messages of one side that follow each other are one turn, and results stand at the beginning of the user's turn after
    their calls, as most models' APIs want it.
    """
    said = [message for message in messages if not isinstance(message, SystemMessage)]
    sides = [list(side) for _, side in groupby(said, lambda message: isinstance(message, AssistantMessage))]
    return tuple([_turn(side) for side in sides])


def _turn(side: Sequence[Message]) -> UserTurn | AssistantMessage:
    """The messages of one side as one."""
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
    """A conversation as text, each message under the name of who said it, for agents that take one text."""
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
    return url[:5].lower() == "data:"  # a scheme has no case (RFC 3986, 3.1)


def _media_type(url: str) -> str | None:
    """The type that a `data:` URL names, None for other URLs; text, if it names none (RFC 2397)."""
    if not _is_data_url(url):
        return None
    return url[5:].partition(",")[0].partition(";")[0].strip().lower() or "text/plain"


def _bytes_in(url: str) -> bytes | None:
    if not _is_data_url(url):
        return None
    head, comma, data = url.partition(",")
    if not comma:
        raise _malformed()
    return _decoded(data) if "base64" in head.lower().split(";") else unquote_to_bytes(data)


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise _malformed() from None


def _malformed() -> InvalidRequest:
    text = "A 'data:' URL or the base64 of a picture, a document or speech is malformed."
    return InvalidRequest(text, param="messages", code="invalid_value")
