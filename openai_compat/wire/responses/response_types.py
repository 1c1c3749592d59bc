"""The answers of the Responses API: the Response object, its output items, and the events of a stream.

Source: OpenAI's OpenAPI document (Response, OutputItem, ResponseStreamEvent). Only what this server writes is here.
Four keys are not OpenAI's: `event`, which Open WebUI carries out and others skip; `reported` and `original_code`; and
`error` in the `error` event, which other servers write and OpenAI's SDKs look for.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypeAlias

from typing_extensions import TypedDict

from ..chat.response_types import UrlCitation

ItemStatus: TypeAlias = Literal["in_progress", "completed", "incomplete"]
ResponseStatus: TypeAlias = Literal["queued", "in_progress", "completed", "failed", "incomplete", "cancelled"]
Phase: TypeAlias = Literal["commentary", "final_answer"]


class UrlAnnotation(UrlCitation):
    """A source of a part of the text; the indexes are character positions in that text."""

    type: Literal["url_citation"]


class TopLogprob(TypedDict):
    """Another token that might have come here."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A token and how probable it was."""

    top_logprobs: list[TopLogprob]


class OutputText(TypedDict):
    """Text in a message. Both lists are always there."""

    type: Literal["output_text"]
    text: str
    annotations: list[UrlAnnotation]
    logprobs: list[TokenLogprob]


class OutputRefusal(TypedDict):
    """What the agent said when it declined."""

    type: Literal["refusal"]
    refusal: str


Part: TypeAlias = OutputText | OutputRefusal


class OutputMessage(TypedDict):
    """A message of the assistant."""

    id: str
    type: Literal["message"]
    status: ItemStatus
    role: Literal["assistant"]
    content: list[Part]
    phase: NotRequired[Phase]


class ResponseSummaryText(TypedDict):
    """A paragraph of a summary."""

    type: Literal["summary_text"]
    text: str


class Reasoning(TypedDict):
    """What the agent thought, as a summary. `encrypted_content` is left out: null is refused by strict clients."""

    id: str
    type: Literal["reasoning"]
    status: ItemStatus
    summary: list[ResponseSummaryText]


CallExtras = TypedDict("CallExtras", {"namespace": NotRequired[str], "async": NotRequired[bool]})
"""The namespace of a call's tool, and whether its result may come later, or never."""


class ResponseFunctionCall(CallExtras):
    """A function that the client is to call."""

    id: str
    type: Literal["function_call"]
    status: ItemStatus
    call_id: str
    name: str
    arguments: str


class ResponseCustomToolCall(CallExtras):
    """A tool that takes free text, for the client to call."""

    id: str
    type: Literal["custom_tool_call"]
    status: ItemStatus
    call_id: str
    name: str
    input: str


class ToolText(TypedDict):
    """Text that a tool answered, as MCP writes it."""

    type: Literal["text"]
    text: str


class ResponseToolError(TypedDict):
    """A tool's failure, in its own words."""

    type: Literal["mcp_tool_execution_error"]
    content: list[ToolText]


class McpCall(TypedDict):
    """A tool that the agent ran itself: of all shapes of a call the one that no client runs."""

    id: str
    type: Literal["mcp_call"]
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    server_label: str
    name: str
    arguments: str
    output: str | None
    error: ResponseToolError | None
    approval_request_id: NotRequired[str]


class McpApprovalRequest(TypedDict):
    """A question to people: whether the agent may run a tool."""

    id: str
    type: Literal["mcp_approval_request"]
    server_label: str
    name: str
    arguments: str


class ImageGenerationCall(TypedDict):
    """A picture that the agent made, as base64."""

    id: str
    type: Literal["image_generation_call"]
    status: Literal["in_progress", "completed"]
    result: str | None
    output_format: NotRequired[str]


class ResponseCompaction(TypedDict):
    """What takes the place of the beginning of the conversation."""

    id: str
    type: Literal["compaction"]
    encrypted_content: str


OutputItem: TypeAlias = (
    OutputMessage
    | Reasoning
    | ResponseFunctionCall
    | ResponseCustomToolCall
    | McpCall
    | McpApprovalRequest
    | ImageGenerationCall
    | ResponseCompaction
)


class InputTokensDetails(TypedDict):
    """Of the input tokens: how many came from a cache, how many were put into one."""

    # Both are required in OpenAI's SDK: unlike in chat, a detail that nobody has reported is 0 here.
    cached_tokens: int
    cache_write_tokens: int


class OutputTokensDetails(TypedDict):
    """Of the output tokens: how many were thinking."""

    reasoning_tokens: int


class ResponseUsage(TypedDict):
    """Token counts. `reported` is there, and False, where the agent said nothing about them."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int
    reported: NotRequired[Literal[False]]


# Codex shows the message of `invalid_prompt` and does not run the agent again; at other codes it does, five times.
ResponseErrorCode: TypeAlias = Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]


class ResponseError(TypedDict):
    """Why a response failed. OpenAI allows few codes; the error's own one is `original_code`."""

    code: ResponseErrorCode
    message: str
    type: str
    param: str | None
    original_code: str | None


class IncompleteDetails(TypedDict):
    """Why a response is not complete."""

    reason: Literal["max_output_tokens", "content_filter", "steered"]


class Response(TypedDict):
    """One turn: what was asked for and what came of it. Strict clients want all of these keys, always."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: ResponseStatus
    background: bool
    error: ResponseError | None
    incomplete_details: IncompleteDetails | None
    instructions: Any
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    model: str
    output: list[OutputItem]
    parallel_tool_calls: bool
    presence_penalty: float
    frequency_penalty: float
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: Any
    safety_identifier: str | None
    service_tier: str
    store: bool
    temperature: float
    text: Any
    tool_choice: Any
    tools: list[Any]
    top_logprobs: int
    top_p: float
    truncation: str
    usage: ResponseUsage | None


class InputItemPage(TypedDict):
    """The items that a response was made from; the next page begins `after` the last id."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedResponse(TypedDict):
    """The answer of `DELETE /v1/responses/{id}`."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class CompactedResponse(TypedDict):
    """What stands for a conversation from now on. `created_at` is in unix seconds."""

    id: str
    object: Literal["response.compaction"]
    created_at: int
    output: list[ResponseCompaction]
    usage: ResponseUsage


class InputTokens(TypedDict):
    """How many tokens a request has."""

    object: Literal["response.input_tokens"]
    input_tokens: int
