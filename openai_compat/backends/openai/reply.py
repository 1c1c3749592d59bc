"""Translates a streamed chat completion to events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel

from ...errors import AgentError
from ...events import (
    AgentEvent,
    Citation,
    Finished,
    FinishReason,
    Paused,
    PendingCall,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    UsageReported,
)

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk
    from openai.types.chat.chat_completion_chunk import Choice, ChoiceDelta, ChoiceDeltaToolCall
    from openai.types.completion_usage import CompletionUsage

REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "stop",
}
"""Finish reasons by the model server's name; "stop" with open calls becomes a pause."""


@dataclass(slots=True)
class _StreamedCall:
    call_id: str
    name: str
    arguments: list[str] = field(default_factory=list[str])


class OpenAIReply:
    """Reads one completion. `new_id` becomes part of the call ids if the server sends none."""

    def __init__(self, new_id: str) -> None:
        self._new_id = new_id
        self._calls: dict[int, _StreamedCall] = {}
        self._reason: str | None = None
        self._usage: CompletionUsage | None = None

    def read(self, chunk: ChatCompletionChunk) -> Iterator[AgentEvent | str]:
        """The events for one chunk."""
        # Some servers report the total so far in every chunk: only the last one counts.
        self._usage = chunk.usage or self._usage
        for choice in chunk.choices or ():
            yield from self._translate_choice(choice)

    def end(self) -> Iterator[AgentEvent]:
        """The calls, the usage and the end of the turn. Raises AgentError if the stream broke off."""
        pending = [PendingCall(call.call_id, call.name, "".join(call.arguments)) for call in self._calls.values()]
        # Sent only now: the chat format does not mark the end of a call's arguments.
        for call in pending:
            yield ToolCallReady(call.call_id, call.name, call.arguments, "client")
        if self._usage is not None:
            yield _usage(self._usage)
        # A stream without a known reason was cut off: half an answer must not pass for a whole one.
        if self._reason not in REASONS:
            raise AgentError("The model behind the agent broke off.", status=502, code="upstream_incomplete")
        reason = REASONS[self._reason]
        yield Paused(tuple(pending)) if pending and reason == "stop" else Finished(reason)

    def _translate_choice(self, choice: Choice) -> Iterator[AgentEvent | str]:
        delta = choice.delta
        self._reason = choice.finish_reason or self._reason
        # OpenAI has no such field; model servers use either name.
        reasoning = _extension(delta, "reasoning_content") or _extension(delta, "reasoning")
        if isinstance(reasoning, str) and reasoning:
            yield ReasoningDelta(reasoning)
        if delta.content:
            logprobs = choice.logprobs and choice.logprobs.content
            yield TextDelta(delta.content, [token.to_dict() for token in logprobs]) if logprobs else delta.content
        if delta.refusal:
            yield RefusalDelta(delta.refusal)
        yield from _citations(delta)
        for call in delta.tool_calls or ():
            yield from self._translate_call(call)

    def _translate_call(self, piece: ChoiceDeltaToolCall) -> Iterator[AgentEvent]:
        index = piece.index or 0  # servers that leave out zeros send no index for the first call
        custom = _mapping(_extension(piece, "custom"))
        name = piece.function.name if piece.function else custom.get("name")
        arguments = piece.function.arguments if piece.function else custom.get("input")
        call = self._calls.get(index)
        if call is None:
            call = self._calls[index] = _StreamedCall(piece.id or f"call_{self._new_id}_{index}", name or "")
            yield ToolCallStarted(call.call_id, call.name, "client")
        if arguments:
            call.arguments.append(arguments)
            yield ToolCallDelta(call.call_id, arguments)


def _extension(value: BaseModel, name: str) -> object:
    """A field that the SDK's types do not have."""
    return (value.model_extra or {}).get(name)


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _citations(delta: ChoiceDelta) -> Iterator[Citation]:
    annotations = _extension(delta, "annotations")
    for annotation in cast("list[object]", annotations) if isinstance(annotations, list) else ():
        cited = _mapping(_mapping(annotation).get("url_citation"))
        if cited.get("url"):
            yield Citation(
                cited["url"], cited.get("title") or "", cited.get("start_index") or 0, cited.get("end_index") or 0
            )


def _usage(usage: CompletionUsage) -> UsageReported:
    of_input, of_output = usage.prompt_tokens_details, usage.completion_tokens_details
    return UsageReported(
        usage.prompt_tokens or 0,
        usage.completion_tokens or 0,
        cached_tokens=of_input.cached_tokens if of_input else None,
        reasoning_tokens=of_output.reasoning_tokens if of_output else None,
    )
