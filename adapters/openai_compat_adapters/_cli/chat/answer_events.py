"""What becomes known of an answer while it comes, whichever API brings it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import click

LOST = "The connection was lost; the answer above is not whole."


class ChatFailed(click.ClickException):
    """There is no answer, or no more of it. The message says why, in one line.

    Attributes:
        status: the HTTP status; 0 where there is none.
        code: the code of the error; "" without one.
    """

    def __init__(self, message: str, *, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class WireEvent:
    """An event of the stream, as it came."""

    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Doing:
    """What the agent says it is doing; "" for nothing more."""

    text: str


@dataclass(frozen=True, slots=True)
class ThoughtPiece:
    """A piece of what the agent thinks, which is shown dim and kept out of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ThoughtEnded:
    """The agent has thought this to its end."""


@dataclass(frozen=True, slots=True)
class AnswerPiece:
    """A piece of the text that the user is answered with."""

    text: str


@dataclass(frozen=True, slots=True)
class AnswerEnded:
    """A message is complete; `sources` are title and address of what it cites."""

    sources: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ToolBegan:
    """The agent runs a tool of its own."""

    key: int
    name: str


@dataclass(frozen=True, slots=True)
class ToolEnded:
    """It has run; `failed` where `output` is an error."""

    key: int
    name: str
    arguments: str
    output: str
    failed: bool


@dataclass(frozen=True, slots=True)
class AskedApproval:
    """The agent asks whether it may run a tool."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class CalledClient:
    """The agent calls a tool of ours; `kind` is the type of its item."""

    id: str
    name: str
    arguments: str
    kind: str = "function_call"


@dataclass(frozen=True, slots=True)
class MediaMade:
    """A picture or speech; `suffix` is what a file of it is called."""

    kind: Literal["picture", "speech"]
    suffix: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """The turn is over. Tokens are None where the server tells none; `cut` is why the answer is not whole."""

    tokens_in: int | None = None
    tokens_out: int | None = None
    cut: str = ""


@dataclass(frozen=True, slots=True)
class Remark:
    """What the program has to say of the conversation."""

    text: str


AnswerEvent: TypeAlias = (
    WireEvent
    | Doing
    | ThoughtPiece
    | ThoughtEnded
    | AnswerPiece
    | AnswerEnded
    | ToolBegan
    | ToolEnded
    | AskedApproval
    | CalledClient
    | MediaMade
    | Answered
    | Remark
)
Question: TypeAlias = AskedApproval | CalledClient
