"""The events that a backend yields while an agent runs.

A plain `str` is the short form of `TextDelta`. Events are frozen dataclasses; do not subclass them: serializers
match on them exhaustively, so that a new event breaks, at type-check time, every serializer that forgot it.

Order: any number of events, then at most one terminal one (`Finished` or `Paused`) and nothing after it; an agent that
just returns has finished with "stop". For one call id: `ToolCallStarted`, `ToolCallDelta`*, `ToolCallReady`,
`ToolResult`. What is missing is filled in where it can be (`ToolCallReady` alone is enough); what contradicts is an
error of the agent.
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
"""Who runs a tool: the agent itself, or the program that sent the request."""

# Chat's words. Each of the other APIs has its own for these four.
FinishReason: TypeAlias = Literal["stop", "length", "content_filter", "tool_calls"]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer's text.

    `logprobs` are the token probabilities of this piece as OpenAI writes them (`{"token", "logprob", "bytes",
    "top_logprobs"}`), from agents that declare `logprobs`; a piece that the server has to cut loses them. `phase` tells
    what the agent says while it works from its answer; a change of phase begins another message.
    """

    text: str
    logprobs: Sequence[Mapping[str, Any]] | None = None
    phase: Literal["commentary", "final_answer"] | None = None


@dataclass(frozen=True, slots=True)
class MessageBreak:
    """The text after it is another message. Chat, which has one message only, puts a blank line between them."""


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of the agent's thinking, shown apart from the answer (`reasoning_content` in chat).

    `signature` is the model's own proof of the thinking before it, for APIs that bring it back: nobody reads it. That of
    `redacted` thinking, which the model's provider shows to nobody, stands for the thinking itself.
    """

    text: str
    signature: str | None = None
    redacted: bool = False


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    """A piece of the text with which the agent declines."""

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
    """A whole picture, or a piece of speech, that the agent made.

    `data` is raw bytes. Pictures go out whole, one event each. Speech needs a request with `modalities: ["audio"]`;
    its pieces are joined, and `transcript` is the text spoken in this piece.
    """

    data: bytes
    media_type: str
    transcript: str = ""


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """The agent begins to call a tool.

    Without an `executor` the core decides: a tool that the request lists is the client's, any other is the agent's.
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
    """The call is complete. `arguments` is the whole text; it may come without any `ToolCallDelta` before it."""

    call_id: str
    name: str
    arguments: str
    executor: Executor | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A tool that the agent ran itself has answered."""

    call_id: str
    output: str
    is_error: bool = False
    denied: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """A step, a job or a sub-agent moves on.

    `kind` says what moves ("step", "job", "agent" …), `id` tells several apart, `status` is text for people,
    `done` ends it, and `data` is anything JSON can carry.
    """

    kind: str
    id: str
    status: str
    done: bool = False
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should see beside the answer, such as a warning."""

    message: str
    level: Literal["info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True)
class Compacted:
    """The agent has replaced the beginning of the conversation by a summary, to make room."""

    summary: str


@dataclass(frozen=True, slots=True)
class UsageReported:
    """Tokens used since the last report of this turn: an increment, summed by the core.

    `input_tokens` includes `cached_tokens` and `cache_write_tokens`, `output_tokens` includes `reasoning_tokens`, as
    OpenAI counts them.
    A detail left None is unknown, and is not shown.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_tokens: int | None = None

    def since(self, before: UsageReported) -> UsageReported:
        """The increment from an earlier count to this one, for agents whose own counter only grows."""
        # Never less than nothing: a counter that begins anew would take back what was told.
        return UsageReported(
            max(self.input_tokens - before.input_tokens, 0),
            max(self.output_tokens - before.output_tokens, 0),
            _more(self.cached_tokens, before.cached_tokens),
            _more(self.reasoning_tokens, before.reasoning_tokens),
            _more(self.cache_write_tokens, before.cache_write_tokens),
        )


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A tool call that waits: for the client's result, or for somebody to approve that the agent runs it."""

    call_id: str
    name: str
    arguments: str
    waits_for: Literal["result", "approval"] = "result"


@dataclass(frozen=True, slots=True)
class Paused:
    """The turn ends here until the pending calls have their results and decisions, which a later request brings.

    `state`, JSON that the server's store keeps with the turn, comes back in `request.resume.state`.
    """

    pending: tuple[PendingCall, ...] = ()
    state: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The agent is done. "tool_calls" is set by the core whenever calls for the client are open.

    `stop_sequence` is the one of the request's that was met, where that ended it. `state`, JSON that the server's store
    keeps with the turn, comes back in `request.state` of the turn that continues this one.
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


def _more(now: int | None, before: int | None) -> int | None:
    return None if now is None else max(now - (before or 0), 0)


# Of the union itself: a second list could forget one.
EVENT_TYPES: tuple[type[AgentEvent], ...] = AgentEvent.__args__
"""All event classes, in the order they are documented."""
