"""Events of an answer as it arrives, the same for every API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import click

CONNECTION_LOST = "The connection was lost; the answer above is not whole."


class ChatFailed(click.ClickException):
    """There is no answer, or only part of one. The message says why, in one line.

    Attributes:
        status: the HTTP status; 0 without a response.
        code: the error code, or "".
    """

    def __init__(self, message: str, *, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class WireEvent:
    """An event of the stream, unchanged."""

    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Activity:
    """The agent's current activity, in its own words; "" clears it."""

    text: str


@dataclass(frozen=True, slots=True)
class ThoughtPiece:
    """A piece of reasoning, which is shown dimmed and kept out of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ThoughtEnded:
    """The end of a block of reasoning."""


@dataclass(frozen=True, slots=True)
class AnswerPiece:
    """A piece of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class AnswerEnded:
    """The end of a message; `sources` are the title and URL of each citation."""

    sources: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """The agent starts one of its own tools."""

    key: int
    name: str


@dataclass(frozen=True, slots=True)
class ToolEnded:
    """A tool of the agent has ended; `failed` if `output` is an error."""

    key: int
    name: str
    arguments: str
    output: str
    failed: bool


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """The agent asks for approval to run a tool."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ClientToolCall:
    """The agent calls one of the client's tools; `kind` is the type of the call's item."""

    id: str
    name: str
    arguments: str
    kind: str = "function_call"


@dataclass(frozen=True, slots=True)
class GeneratedMedia:
    """A generated picture or speech; `suffix` is its file extension."""

    kind: Literal["picture", "speech"]
    suffix: str
    content: bytes


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """The end of a turn. Tokens are None if the server reports none; `cut` says why the answer is incomplete."""

    tokens_in: int | None = None
    tokens_out: int | None = None
    cut: str = ""


@dataclass(frozen=True, slots=True)
class ProgramNotice:
    """A notice from the program about the conversation."""

    text: str


AnswerEvent: TypeAlias = (
    WireEvent
    | Activity
    | ThoughtPiece
    | ThoughtEnded
    | AnswerPiece
    | AnswerEnded
    | ToolStarted
    | ToolEnded
    | ApprovalRequest
    | ClientToolCall
    | GeneratedMedia
    | TurnEnded
    | ProgramNotice
)
Question: TypeAlias = ApprovalRequest | ClientToolCall
