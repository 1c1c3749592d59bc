"""What the older completions API answers, plain and streamed alike. Source: OpenAI's OpenAPI document."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from .response_types import CompletionUsage


class TextChoice(TypedDict):
    """One answer, or a piece of one."""

    index: int
    text: str
    logprobs: None
    finish_reason: Literal["stop", "length", "content_filter"] | None


class Completion(TypedDict):
    """The whole answer, or one event of a stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: NotRequired[CompletionUsage | None]
