"""What the Responses API answers beside responses and their streams. Source: OpenAI's OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from .response_types import Compaction, ResponseUsage


class InputItemPage(TypedDict):
    """The items that a response was made from; the next page begins `after` the last id."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedResponse(TypedDict):
    """What was deleted."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class CompactedResponse(TypedDict):
    """What stands for a conversation from now on. `created_at` is in unix seconds."""

    id: str
    object: Literal["response.compaction"]
    created_at: int
    output: list[Compaction]
    usage: ResponseUsage


class InputTokens(TypedDict):
    """How many tokens a request has."""

    object: Literal["response.input_tokens"]
    input_tokens: int
