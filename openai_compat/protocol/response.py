"""What the Responses API answers: the Response object, its output items, and the events of a stream.

Source: OpenAI's OpenAPI document (Response, OutputItem, ResponseStreamEvent). Only what this server writes is here.
Four keys are not OpenAI's: `event`, which Open WebUI carries out and others skip; `reported` and `original_code`; and
`error` in the `error` event, which other servers write and OpenAI's SDKs look for.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypeAlias

from typing_extensions import TypedDict

from .chat_response import UrlCitation

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


class SummaryText(TypedDict):
    """A paragraph of a summary."""

    type: Literal["summary_text"]
    text: str


class Reasoning(TypedDict):
    """What the agent thought, as a summary. `encrypted_content` is left out: null is refused by strict clients."""

    id: str
    type: Literal["reasoning"]
    status: ItemStatus
    summary: list[SummaryText]


CallExtras = TypedDict("CallExtras", {"namespace": NotRequired[str], "async": NotRequired[bool]})
"""The namespace of a call's tool, and whether its result may come later, or never."""


class FunctionCall(CallExtras):
    """A function that the client is to call."""

    id: str
    type: Literal["function_call"]
    status: ItemStatus
    call_id: str
    name: str
    arguments: str


class CustomToolCall(CallExtras):
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


class ToolError(TypedDict):
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
    error: ToolError | None
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


class Compaction(TypedDict):
    """What takes the place of the beginning of the conversation."""

    id: str
    type: Literal["compaction"]
    encrypted_content: str


OutputItem: TypeAlias = (
    OutputMessage
    | Reasoning
    | FunctionCall
    | CustomToolCall
    | McpCall
    | McpApprovalRequest
    | ImageGenerationCall
    | Compaction
)


class InputTokensDetails(TypedDict):
    """Of the input tokens: how many came from a cache, how many were put into one."""

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


class StatusData(TypedDict):
    """A line of text for people; `done` ends its animation."""

    description: str
    done: bool


class StatusEvent(TypedDict):
    """What Open WebUI shows above the answer while the agent works."""

    type: Literal["status"]
    data: StatusData


class Event(TypedDict):
    """What all events have. The number is given when an event is written."""

    sequence_number: NotRequired[int]
    event: NotRequired[StatusEvent]


LifecycleType: TypeAlias = Literal[
    "response.created",
    "response.queued",
    "response.in_progress",
    "response.completed",
    "response.incomplete",
    "response.failed",
]


class LifecycleEvent(Event):
    """The whole response goes into another state."""

    type: LifecycleType
    response: dict[str, Any]


class NestedError(ResponseError):
    """An error as the envelope of HTTP answers has it, with the code of a failed response."""


class ErrorEvent(Event):
    """Something went wrong: flat as OpenAI writes it, and nested, without which Python clients miss it."""

    type: Literal["error"]
    code: str | None
    message: str
    param: str | None
    error: NestedError


class ItemEvent(Event):
    """An output item begins, or is complete."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    output_index: int
    item: OutputItem


class InItem(Event):
    """What events within an item have."""

    item_id: str
    output_index: int


Step: TypeAlias = Literal[
    "response.mcp_call.in_progress",
    "response.mcp_call.completed",
    "response.mcp_call.failed",
    "response.image_generation_call.in_progress",
    "response.image_generation_call.completed",
    "response.compaction.compacting",
]


class StepEvent(InItem):
    """An item goes a step on."""

    type: Step


CallDeltaType: TypeAlias = Literal[
    "response.function_call_arguments.delta",
    "response.custom_tool_call_input.delta",
    "response.mcp_call_arguments.delta",
]


class CallDeltaEvent(InItem):
    """A piece of a call's arguments."""

    type: CallDeltaType
    delta: str


class FunctionArgumentsDone(InItem):
    """The arguments of a function call are whole."""

    type: Literal["response.function_call_arguments.done"]
    name: str
    arguments: str


class McpArgumentsDone(InItem):
    """The arguments of the agent's own call are whole."""

    type: Literal["response.mcp_call_arguments.done"]
    arguments: str


class CustomInputDone(InItem):
    """The input of a custom tool is whole."""

    type: Literal["response.custom_tool_call_input.done"]
    input: str


class InPart(InItem):
    """What events within a part of a message have."""

    content_index: int


class PartEvent(InPart):
    """A part of a message begins, or is complete."""

    type: Literal["response.content_part.added", "response.content_part.done"]
    part: Part


class TextDeltaEvent(InPart):
    """A piece of text."""

    type: Literal["response.output_text.delta"]
    delta: str
    logprobs: list[TokenLogprob]


class TextDoneEvent(InPart):
    """The text of a part is whole."""

    type: Literal["response.output_text.done"]
    text: str
    logprobs: list[TokenLogprob]


class AnnotationEvent(InPart):
    """A source of the text."""

    type: Literal["response.output_text.annotation.added"]
    annotation_index: int
    annotation: UrlAnnotation


class RefusalDeltaEvent(InPart):
    """A piece of a refusal."""

    type: Literal["response.refusal.delta"]
    delta: str


class RefusalDoneEvent(InPart):
    """A refusal is whole."""

    type: Literal["response.refusal.done"]
    refusal: str


class InSummary(InItem):
    """What events within a paragraph of thinking have."""

    summary_index: int


class SummaryPartAdded(InSummary):
    """A paragraph of thinking begins."""

    type: Literal["response.reasoning_summary_part.added"]
    part: SummaryText


class SummaryPartDone(InSummary):
    """A paragraph of thinking ends; `status` is there if it was cut off."""

    type: Literal["response.reasoning_summary_part.done"]
    part: SummaryText
    status: NotRequired[Literal["incomplete"]]


class SummaryDeltaEvent(InSummary):
    """A piece of thinking."""

    type: Literal["response.reasoning_summary_text.delta"]
    delta: str


class SummaryDoneEvent(InSummary):
    """A paragraph of thinking is whole."""

    type: Literal["response.reasoning_summary_text.done"]
    text: str


class SpeechDeltaEvent(Event):
    """A piece of speech, as base64 that can be joined, or of what it says."""

    type: Literal["response.audio.delta", "response.audio.transcript.delta"]
    response_id: str
    delta: str


class SpeechDoneEvent(Event):
    """The speech, or its transcript, is whole."""

    type: Literal["response.audio.done", "response.audio.transcript.done"]
    response_id: str


StreamEvent: TypeAlias = (
    LifecycleEvent
    | ErrorEvent
    | ItemEvent
    | StepEvent
    | CallDeltaEvent
    | FunctionArgumentsDone
    | McpArgumentsDone
    | CustomInputDone
    | PartEvent
    | TextDeltaEvent
    | TextDoneEvent
    | AnnotationEvent
    | RefusalDeltaEvent
    | RefusalDoneEvent
    | SummaryPartAdded
    | SummaryPartDone
    | SummaryDeltaEvent
    | SummaryDoneEvent
    | SpeechDeltaEvent
    | SpeechDoneEvent
)
