"""The events of a Responses stream, as written to the wire.

Source: OpenAI's OpenAPI document (ResponseStreamEvent). Only events that this server writes are here.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypeAlias

from typing_extensions import TypedDict

from .response_types import OutputItem, Part, ResponseError, ResponseSummaryText, TokenLogprob, UrlAnnotation


class ResponseStatusData(TypedDict):
    """A status line for the user; `done` ends its animation."""

    description: str
    done: bool


class ResponseStatusEvent(TypedDict):
    """The status that Open WebUI shows above the answer while the agent works."""

    type: Literal["status"]
    data: ResponseStatusData


class Event(TypedDict):
    """Fields shared by all events. The sequence number is set when an event is written."""

    sequence_number: NotRequired[int]
    event: NotRequired[ResponseStatusEvent]


# OpenAI has no event for cancellation: `response.incomplete` carries the response with status `cancelled`.
LifecycleType: TypeAlias = Literal[
    "response.created",
    "response.queued",
    "response.in_progress",
    "response.completed",
    "response.incomplete",
    "response.failed",
]


class LifecycleEvent(Event):
    """A change of the response's status."""

    type: LifecycleType
    response: dict[str, Any]


class NestedError(ResponseError):
    """An error like that of OpenAI's HTTP envelope, with the code of a failed response."""


class ErrorEvent(Event):
    """An error, both flat as OpenAI writes it and nested, since Python clients miss a flat one."""

    type: Literal["error"]
    code: str | None
    message: str
    param: str | None
    error: NestedError


class ItemEvent(Event):
    """An output item was added or is complete."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    output_index: int
    item: OutputItem


class InItem(Event):
    """Fields shared by all events of an item."""

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
    """Progress of an item."""

    type: Step


CallDeltaType: TypeAlias = Literal[
    "response.function_call_arguments.delta",
    "response.custom_tool_call_input.delta",
    "response.mcp_call_arguments.delta",
]


class CallDeltaEvent(InItem):
    """A delta of a call's arguments."""

    type: CallDeltaType
    delta: str


class FunctionArgumentsDone(InItem):
    """The complete arguments of a function call."""

    type: Literal["response.function_call_arguments.done"]
    name: str
    arguments: str


class McpArgumentsDone(InItem):
    """The complete arguments of the agent's own call."""

    type: Literal["response.mcp_call_arguments.done"]
    arguments: str


class CustomInputDone(InItem):
    """The complete input of a custom tool call."""

    type: Literal["response.custom_tool_call_input.done"]
    input: str


class InPart(InItem):
    """Fields shared by all events of a content part."""

    content_index: int


class PartEvent(InPart):
    """A content part was added or is complete."""

    type: Literal["response.content_part.added", "response.content_part.done"]
    part: Part


class TextDeltaEvent(InPart):
    """A delta of the text of a message's last part."""

    type: Literal["response.output_text.delta"]
    delta: str
    logprobs: list[TokenLogprob]


class TextDoneEvent(InPart):
    """The complete text of a content part."""

    type: Literal["response.output_text.done"]
    text: str
    logprobs: list[TokenLogprob]


class AnnotationEvent(InPart):
    """An annotation that cites a source of the text."""

    type: Literal["response.output_text.annotation.added"]
    annotation_index: int
    annotation: UrlAnnotation


class RefusalDeltaEvent(InPart):
    """A delta of a refusal."""

    type: Literal["response.refusal.delta"]
    delta: str


class RefusalDoneEvent(InPart):
    """The complete refusal of a content part."""

    type: Literal["response.refusal.done"]
    refusal: str


class InSummary(InItem):
    """Fields shared by all events of a reasoning summary part."""

    summary_index: int


# Reasoning is sent as a summary: of the two forms, the AI SDK and Codex read only this one.
class SummaryPartAdded(InSummary):
    """A reasoning summary part was added."""

    type: Literal["response.reasoning_summary_part.added"]
    part: ResponseSummaryText


class SummaryPartDone(InSummary):
    """A reasoning summary part is complete; `status` is present if it was cut off."""

    type: Literal["response.reasoning_summary_part.done"]
    part: ResponseSummaryText
    status: NotRequired[Literal["incomplete"]]


class SummaryDeltaEvent(InSummary):
    """A delta of a reasoning summary part."""

    type: Literal["response.reasoning_summary_text.delta"]
    delta: str


class SummaryDoneEvent(InSummary):
    """The complete text of a reasoning summary part."""

    type: Literal["response.reasoning_summary_text.done"]
    text: str


class SpeechDeltaEvent(Event):
    """A delta of speech, as base64 that clients can concatenate, or of its transcript."""

    type: Literal["response.audio.delta", "response.audio.transcript.delta"]
    response_id: str
    delta: str


class SpeechDoneEvent(Event):
    """The speech or its transcript is complete."""

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
