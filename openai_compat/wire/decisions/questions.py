"""Questions as decide functions get them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ...messages import ImagePart, Message, ToolMessage, UserMessage, transcript

Option: TypeAlias = str | bool
"""A value of a choice: text and booleans are told apart. Of a score, the label of a level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionQuestion:
    """One question about the input, as a decide function gets it.

    Attributes:
        kind: "predicate" asks how likely a statement is to be true, "choice" which of `options` it is, "score" which level.
        instructions: what is asked, as text.
        options: the values of a choice, or the labels of a score's levels, the lowest first; empty for a predicate.
        descriptions: what the client says of an option.
        name: the client's name for the question.
        images: pictures in what is asked.
    """

    kind: Literal["predicate", "choice", "score"]
    instructions: str
    options: tuple[Option, ...] = ()
    descriptions: Mapping[Option, str] = field(default_factory=dict[Option, str])
    name: str | None = None
    images: tuple[ImagePart, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionInput:
    """What a decide function is given.

    Attributes:
        messages: what is decided about.
        questions: what is asked about it, in order.
        user: the client's name for its end user.
    """

    messages: tuple[Message, ...]
    questions: tuple[DecisionQuestion, ...]
    user: str | None = None

    @property
    def text(self) -> str:
        """What is decided about as one text."""
        one = self.messages[0] if len(self.messages) == 1 else None
        return one.text if isinstance(one, UserMessage) else transcript(self.messages)

    @property
    def has_pictures(self) -> bool:
        """Whether that text is not all of it."""
        users = [part for message in self.messages if isinstance(message, UserMessage) for part in message.parts]
        of_tools = [part for message in self.messages if isinstance(message, ToolMessage) for part in message.media]
        return any([isinstance(part, ImagePart) for part in (*users, *of_tools)])
