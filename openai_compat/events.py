"""The events that a backend yields while an agent runs.

A plain `str` is short for `TextDelta`. Events are frozen dataclasses; do not subclass them: serializers match on them
exhaustively, so that a type checker reports every serializer that misses a new event.

Order: any number of events, then at most one terminal event (`Finished` or `Paused`) and nothing after it; an agent
that just returns has finished with "stop". For one call id: `ToolCallStarted`, `ToolCallDelta`*, `ToolCallReady`,
`ToolResult`. Missing events are filled in where possible (`ToolCallReady` alone is enough); contradictory events are
an error of the agent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

__all__ = (
    "EVENT_TYPES",
    "AgentEvent",
    "Citation",
    "Compacted",
    "Executor",
    "FinishReason",
    "Finished",
    "MediaDelta",
    "MessageBreak",
    "Notice",
    "Paused",
    "PendingCall",
    "Progress",
    "ReasoningDelta",
    "RefusalDelta",
    "TextDelta",
    "ToolCallDelta",
    "ToolCallReady",
    "ToolCallStarted",
    "ToolResult",
    "UsageReported",
)

Executor: TypeAlias = Literal["agent", "client"]
"""The side that runs a tool: the agent, or the client that sent the request."""

# The values of the chat API. Each of the other APIs has its own four values.
FinishReason: TypeAlias = Literal["stop", "length", "content_filter", "tool_calls"]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer's text.

    `logprobs` are the token probabilities of this piece in OpenAI's format (`{"token", "logprob", "bytes",
    "top_logprobs"}`), from agents that declare `logprobs`; a piece that the server has to split loses them. `phase`
    separates comments made while working from the final answer; a change of phase starts another message.
    """

    text: str
    logprobs: Sequence[Mapping[str, Any]] | None = None
    phase: Literal["commentary", "final_answer"] | None = None


@dataclass(frozen=True, slots=True)
class MessageBreak:
    """Starts another message. The chat API, which has only one message, gets a blank line instead."""


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of the agent's reasoning, shown apart from the answer (`reasoning_content` in chat).

    `signature` is the model's opaque proof of the reasoning before it, for APIs whose clients send it back. For `redacted`
    reasoning, which the provider shows to no one, the signature stands for the reasoning itself.
    """

    text: str
    signature: str | None = None
    redacted: bool = False


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    """A piece of the text of a refusal."""

    text: str


@dataclass(frozen=True, slots=True)
class Citation:
    """A source for part of the answer: `start_index` to `end_index` are character positions in its text."""

    url: str
    title: str
    start_index: int
    end_index: int


@dataclass(frozen=True, slots=True)
class MediaDelta:
    """A whole image, or a piece of speech, made by the agent.

    `data` is raw bytes. Each image is one event. Speech needs a request with `modalities: ["audio"]`; its pieces are
    joined, and `transcript` is the text spoken in this piece.
    """

    data: bytes
    media_type: str
    transcript: str = ""


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """The agent starts a tool call.

    Without an `executor` the core decides: a tool listed in the request is the client's, any other is the agent's.
    """

    call_id: str
    name: str
    executor: Executor | None = None


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of the arguments: JSON text for function tools, free text for custom tools."""

    call_id: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCallReady:
    """The call is complete. `arguments` is the whole text; no `ToolCallDelta` needs to come before."""

    call_id: str
    name: str
    arguments: str
    executor: Executor | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of a tool that the agent ran itself."""

    call_id: str
    output: str
    is_error: bool = False
    denied: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a step, a job or a sub-agent.

    `kind` is the kind of work ("step", "job", "agent" …), `id` tells several apart, `status` is text for people, `done`
    marks the end, and `data` is any JSON data.
    """

    kind: str
    id: str
    status: str
    done: bool = False
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Notice:
    """A message for the user beside the answer, for instance a warning."""

    message: str
    level: Literal["info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True)
class Compacted:
    """The agent replaced the beginning of the conversation with a summary, to free context."""

    summary: str


@dataclass(frozen=True, slots=True)
class UsageReported:
    """Tokens used since the last report of this turn: an increment; the core adds them up.

    `input_tokens` includes `cached_tokens` and `cache_write_tokens`; `output_tokens` includes `reasoning_tokens`, as in
    OpenAI's counts.
    A detail that is None is unknown and is not shown.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_tokens: int | None = None

    def since(self, before: UsageReported) -> UsageReported:
        """Return the increment from an earlier count to this one, for agents with a running total."""
        # Never negative: a counter that restarts would subtract from earlier reports.
        return UsageReported(
            max(self.input_tokens - before.input_tokens, 0),
            max(self.output_tokens - before.output_tokens, 0),
            _increment(self.cached_tokens, before.cached_tokens),
            _increment(self.reasoning_tokens, before.reasoning_tokens),
            _increment(self.cache_write_tokens, before.cache_write_tokens),
        )


@dataclass(frozen=True, slots=True)
class PendingCall:
    """An open tool call that waits for the client's result, or for a person to approve the agent's call."""

    call_id: str
    name: str
    arguments: str
    waits_for: Literal["result", "approval"] = "result"


@dataclass(frozen=True, slots=True)
class Paused:
    """Ends the turn until a later request brings the results and decisions of the pending calls.

    `state` is JSON that the server stores with the turn and returns in `request.resume.state`.
    """

    pending: tuple[PendingCall, ...] = ()
    state: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The agent is done. The core sets "tool_calls" whenever calls for the client are open.

    `stop_sequence` is the requested stop sequence that ended the answer, if one did. `state` is JSON that the server stores
    with the turn and returns in `request.state` of the turn that continues this one.
    """

    reason: FinishReason = "stop"
    stop_sequence: str | None = None
    state: Mapping[str, Any] | None = None


AgentEvent: TypeAlias = (
    TextDelta
    | MessageBreak
    | ReasoningDelta
    | RefusalDelta
    | Citation
    | MediaDelta
    | ToolCallStarted
    | ToolCallDelta
    | ToolCallReady
    | ToolResult
    | Progress
    | Notice
    | Compacted
    | UsageReported
    | Paused
    | Finished
)


def _increment(now: int | None, before: int | None) -> int | None:
    return None if now is None else max(now - (before or 0), 0)


# Taken from the union: a second list could miss an event.
EVENT_TYPES: tuple[type[AgentEvent], ...] = AgentEvent.__args__
"""All event classes, in the order of the documentation."""
