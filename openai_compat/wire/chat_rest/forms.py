"""The chat REST API's answers: one object, or a stream of pieces and a last one that sums up."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ...events import ReasoningDelta, RefusalDelta, TextDelta
from ..json import dumps, sse
from ..reducer import Item
from .serialize import TurnRecord
from .types import Artifact, Message, PendingApproval, TokenUsage


@dataclass(frozen=True, slots=True)
class Turned:
    """The outcome of a turn.

    Attributes:
        user: the user's message as it is kept, None if the turn had none, or nothing is kept.
        assistant: the agent's.
        approvals: what it waits for.
        usage: the tokens that it has used.
    """

    record: TurnRecord
    model: str
    provider: str
    user: Message | None
    assistant: Message
    approvals: list[PendingApproval]
    usage: TokenUsage

    @property
    def artifacts(self) -> list[Artifact]:
        """The pictures, and whatever else is no text, that the agent has made."""
        return [
            {"type": media.media_type, "data": base64.b64encode(media.data).decode()}
            for media in self.record.final.media
        ]


class TurnForm(Protocol):
    """Writes one turn. All frames are whole."""

    def begin(self) -> bytes:
        """The first frames, before the agent has said anything."""
        ...

    def feed(self, items: list[Item], shown: list[Item]) -> bytes:
        """The frames for what was said, and for what a reader of one message sees of that."""
        ...

    def end(self, turned: Turned) -> bytes:
        """The last frames, or the whole answer."""
        ...


@dataclass(frozen=True, slots=True)
class Whole:
    """One JSON object at the end, which `answer` makes."""

    answer: Callable[[Turned], Mapping[str, Any]]

    def begin(self) -> bytes:
        return b""

    def feed(self, items: list[Item], shown: list[Item]) -> bytes:
        return b""

    def end(self, turned: Turned) -> bytes:
        return dumps(self.answer(turned))


@dataclass(frozen=True, slots=True)
class Pieces:
    """`{"content"}` for each piece of text, `{"thinking"}` for each thought, then `{"done": true}` with the rest."""

    summary: Callable[[Turned], Mapping[str, Any]]

    def begin(self) -> bytes:
        return b""

    def feed(self, items: list[Item], shown: list[Item]) -> bytes:
        text = text_in(shown)
        thought = "".join([item.text for item in shown if isinstance(item, ReasoningDelta)])
        frames = sse({"thinking": thought}) if thought else b""
        return frames + (sse({"content": text}) if text else b"")

    def end(self, turned: Turned) -> bytes:
        reason = turned.record.finish_reason
        return sse({"done": True, "usage": turned.usage, "finishReason": reason, **self.summary(turned)})


def text_in(shown: list[Item]) -> str:
    """The text of the items."""
    said = [item for item in shown if isinstance(item, str | TextDelta | RefusalDelta)]
    return "".join([item if isinstance(item, str) else item.text for item in said])
