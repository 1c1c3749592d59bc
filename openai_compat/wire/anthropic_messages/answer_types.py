"""The responses of Anthropic's Messages API. Source: the types of Anthropic's SDK."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict


class ErrorInformation(TypedDict):
    """The error itself. `details` has this server's code as `error_code`."""

    type: str
    message: str
    details: NotRequired[dict[str, Any]]


class MessagesError(TypedDict):
    """The error envelope. `request_id` equals the header `request-id`."""

    type: Literal["error"]
    error: ErrorInformation
    request_id: str


class MessageCounts(TypedDict):
    """Token counts. `input_tokens` excludes cached tokens."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: NotRequired[int]
    cache_read_input_tokens: NotRequired[int]
    output_tokens_details: NotRequired[dict[str, Any]]


class AnsweredBlock(TypedDict):
    """A content block: `text`, `thinking`, `tool_use` or another type, each with its own fields."""

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
    """An agent in a model listing."""

    type: Literal["model"]
    id: str
    display_name: str
    created_at: str
    lifecycle: Literal["active"]
    max_input_tokens: NotRequired[int]


class AnthropicModelPage(TypedDict):
    """One page of the agents that the caller may use. Pass `last_id` as `after_id` to get the next page."""

    data: list[AnthropicModel]
    has_more: bool
    first_id: str | None
    last_id: str | None


class TokensCounted(TypedDict):
    """The token count of a request."""

    input_tokens: int
