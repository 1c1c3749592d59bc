"""Questions as decide functions receive them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ...messages import ImagePart, Message, ToolMessage, UserMessage, transcript

Option: TypeAlias = str | bool
"""A value of a choice (text and booleans are distinct), or the label of a score level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionQuestion:
    """One question about the input, as a decide function receives it.

    Attributes:
        kind: "predicate" asks how likely a statement is true, "choice" which of `options` applies, "score" which level.
        instructions: the question, as text.
        options: the values of a choice, or the labels of a score's levels, lowest first; empty for a predicate.
        descriptions: the client's descriptions of options.
        name: the client's name for the question.
        images: images in the question.
    """

    kind: Literal["predicate", "choice", "score"]
    instructions: str
    options: tuple[Option, ...] = ()
    descriptions: Mapping[Option, str] = field(default_factory=dict[Option, str])
    name: str | None = None
    images: tuple[ImagePart, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionInput:
    """The input of a decide function.

    Attributes:
        messages: the conversation to decide about.
        questions: the questions about it, in order.
        user: the client's name for its end user.
    """

    messages: tuple[Message, ...]
    questions: tuple[DecisionQuestion, ...]
    user: str | None = None

    @property
    def text(self) -> str:
        """The conversation to decide about, as one text."""
        one = self.messages[0] if len(self.messages) == 1 else None
        return one.text if isinstance(one, UserMessage) else transcript(self.messages)

    @property
    def has_pictures(self) -> bool:
        """True if the conversation has images, which `text` leaves out."""
        users = [part for message in self.messages if isinstance(message, UserMessage) for part in message.parts]
        of_tools = [part for message in self.messages if isinstance(message, ToolMessage) for part in message.media]
        return any([isinstance(part, ImagePart) for part in (*users, *of_tools)])
