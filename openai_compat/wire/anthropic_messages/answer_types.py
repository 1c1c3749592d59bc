"""What is answered to Anthropic's clients. Source: the types of Anthropic's SDK."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict


class ErrorInformation(TypedDict):
    """What went wrong. `details` has our code as `error_code`."""

    type: str
    message: str
    details: NotRequired[dict[str, Any]]


class MessagesError(TypedDict):
    """The envelope of an error. `request_id` is that of the header `request-id`."""

    type: Literal["error"]
    error: ErrorInformation
    request_id: str


class MessageCounts(TypedDict):
    """Tokens. Those of the cache are none of `input_tokens`."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: NotRequired[int]
    cache_read_input_tokens: NotRequired[int]
    output_tokens_details: NotRequired[dict[str, Any]]


class AnsweredBlock(TypedDict):
    """A part of a message: `text`, `thinking`, `tool_use` or another one, each with fields of its own."""

    type: str


class AnthropicMessage(TypedDict):
    """A message of the agent."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[AnsweredBlock]
    stop_reason: Literal["end_turn", "stop_sequence", "max_tokens", "tool_use", "refusal"] | None
    stop_sequence: str | None
    stop_details: NotRequired[dict[str, Any]]
    usage: MessageCounts


class AnthropicModel(TypedDict):
    """An agent, where models are listed."""

    type: Literal["model"]
    id: str
    display_name: str
    created_at: str
    lifecycle: Literal["active"]
    max_input_tokens: NotRequired[int]


class AnthropicModelPage(TypedDict):
    """Some of the agents that the caller may use. `last_id` is the `after_id` of the next page."""

    data: list[AnthropicModel]
    has_more: bool
    first_id: str | None
    last_id: str | None


class TokensCounted(TypedDict):
    """How many tokens a request has."""

    input_tokens: int
