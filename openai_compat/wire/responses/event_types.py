"""The events of a Responses stream, as they are written.

Source: OpenAI's OpenAPI document (ResponseStreamEvent). Only what this server writes is here.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypeAlias

from typing_extensions import TypedDict

from .response_types import OutputItem, Part, ResponseError, ResponseSummaryText, TokenLogprob, UrlAnnotation


class ResponseStatusData(TypedDict):
    """A line of text for people; `done` ends its animation."""

    description: str
    done: bool


class ResponseStatusEvent(TypedDict):
    """What Open WebUI shows above the answer while the agent works."""

    type: Literal["status"]
    data: ResponseStatusData


class Event(TypedDict):
    """What all events have. The number is given when an event is written."""

    sequence_number: NotRequired[int]
    event: NotRequired[ResponseStatusEvent]


# OpenAI has none for what was cancelled: `response.incomplete` brings it, with that status.
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
    """A piece of a part's text; the last part of its message, always."""

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
    """The refusal that a part holds is whole."""

    type: Literal["response.refusal.done"]
    refusal: str


class InSummary(InItem):
    """What events within a paragraph of thinking have."""

    summary_index: int


# Thinking goes out as a summary: of the two forms, the AI SDK and Codex read only this one.
class SummaryPartAdded(InSummary):
    """A paragraph of thinking begins."""

    type: Literal["response.reasoning_summary_part.added"]
    part: ResponseSummaryText


class SummaryPartDone(InSummary):
    """A paragraph of thinking ends; `status` is there if it was cut off."""

    type: Literal["response.reasoning_summary_part.done"]
    part: ResponseSummaryText
    status: NotRequired[Literal["incomplete"]]


class SummaryDeltaEvent(InSummary):
    """A piece of the paragraph that a reasoning item holds."""

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
