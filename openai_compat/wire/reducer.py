"""Folds a turn's events into its final message. Non-streaming responses use this fold, so they match the streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, assert_never

from ..events import (
    AgentEvent,
    Citation,
    Compacted,
    Finished,
    FinishReason,
    MediaDelta,
    MessageBreak,
    Notice,
    Paused,
    PendingCall,
    Progress,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)

Item: TypeAlias = AgentEvent | str
"""An event as passed around inside the core, where a non-empty `str` stands for `TextDelta`."""


BETWEEN_MESSAGES = "\n\n"
"""Separator between two messages of an agent in formats that have only one message."""

LARGE_ITEM = 4096
"""Size of an item that fills a buffer on its own: a buffer must not hold 256 pictures."""


def size_of(item: Item) -> int:
    """Return the size of an item in characters, or in bytes for media."""
    match item:
        case str():
            return len(item)
        case Finished():  # early, since every turn has one
            return 0
        case TextDelta() | ReasoningDelta() | RefusalDelta():
            return len(item.text)
        case ToolCallDelta():
            return len(item.arguments)
        case MediaDelta():
            return len(item.data)
        case _:
            return 0


class Texts(list[Any]):
    """A batch of texts, each a `str`: consumers need not inspect each item, which is most of the cost of a text."""

    __slots__ = ()


@dataclass(slots=True)
class Usage:
    """Token counts of a turn, summed. `reported` is False until the agent reports some."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_tokens: int | None = None
    reported: bool = False

    def add(self, more: UsageReported | Usage) -> None:
        """Add an increment, or another turn's sum."""
        # A turn without a report must not count as a reported zero.
        if isinstance(more, Usage) and not more.reported:
            return
        self.reported = True
        self.input_tokens += more.input_tokens
        self.output_tokens += more.output_tokens
        self.cached_tokens = _add_optional(self.cached_tokens, more.cached_tokens)
        self.reasoning_tokens = _add_optional(self.reasoning_tokens, more.reasoning_tokens)
        self.cache_write_tokens = _add_optional(self.cache_write_tokens, more.cache_write_tokens)


def _add_optional(a: int | None, b: int | None) -> int | None:
    # None stays None: a detail that was never reported is left out, since a zero would be a claim.
    return None if a is None and b is None else (a or 0) + (b or 0)


@dataclass(slots=True)
class FinalMessage:
    """The outcome of a turn."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    citations: list[Citation] = field(default_factory=list[Citation])
    logprobs: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    media: list[MediaDelta] = field(default_factory=list[MediaDelta])
    client_calls: list[PendingCall] = field(default_factory=list[PendingCall])
    compacted: str | None = None
    approvals: list[PendingCall] = field(default_factory=list[PendingCall])
    state: Mapping[str, Any] | None = None
    finish_reason: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)

    @property
    def is_only_text(self) -> bool:
        """True if a chat client would see nothing but the text."""
        return not (
            self.reasoning or self.refusal or self.citations or self.logprobs or self.media or self.client_calls
        )


class Reducer:
    """Collects events; `message()` is the fold of all events so far."""

    _break_due = False

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[str, tuple[str, list[str]]] = {}
        # Spelled out: calling a default factory such as `list[str]` takes ten times as long.
        self._message = FinalMessage(citations=[], logprobs=[], media=[], client_calls=[], approvals=[])

    def feed(self, items: list[Item]) -> None:
        """Add events, in the order in which the agent emitted them."""
        if type(items) is Texts and not self._break_due:
            self._text += items
            return
        for item in items:
            if isinstance(item, str):
                self._append_text(item)
            else:
                self._fold(item)

    def _append_text(self, text: str) -> None:
        """Append text, after a blank line if a new message has begun."""
        if self._break_due and text:
            self._text.append(BETWEEN_MESSAGES)
            self._break_due = False
        self._text.append(text)

    def _fold(self, event: AgentEvent) -> None:  # noqa: C901, PLR0912  (one arm for each event)
        message = self._message
        match event:
            case Finished():  # first, since every turn has one
                message.finish_reason = event.reason
                message.state = event.state
            case TextDelta():
                self._append_text(event.text)
                message.logprobs.extend(event.logprobs or ())
            case ReasoningDelta():
                self._reasoning.append(event.text)
            case RefusalDelta():
                self._refusal.append(event.text)
            case Citation():
                message.citations.append(event)
            case MediaDelta():
                message.media.append(event)
            case UsageReported():
                message.usage.add(event)
            case ToolCallStarted():  # calls keep the order in which they began, as in a stream
                # The agent's own calls are never in `tool_calls`: clients would run them, some in an endless loop.
                if event.executor == "client":
                    self._calls[event.call_id] = (event.name, [])
            case ToolCallDelta():
                if event.call_id in self._calls:
                    self._calls[event.call_id][1].append(event.arguments)
            case ToolCallReady():
                if event.executor == "client":
                    self._calls[event.call_id] = (event.name, [event.arguments])
            case Paused():
                # Clients expect calls with "tool_calls"; a pause only for an approval has none.
                message.finish_reason = "tool_calls" if self._calls else "stop"
                message.approvals = [call for call in event.pending if call.waits_for == "approval"]
                message.state = event.state
            # The blank line is added only before more text; at the end of the answer it would be left over.
            case MessageBreak():
                self._break_due = any(self._text)
            case ToolResult() | Progress() | Notice():
                pass
            case Compacted():
                message.compacted = event.summary
            case _:
                assert_never(event)

    def message(self) -> FinalMessage:
        """Return the message as of now."""
        self._message.text = "".join(self._text)
        self._message.reasoning = "".join(self._reasoning)
        self._message.refusal = "".join(self._refusal)
        if self._calls:
            calls = self._calls.items()
            self._message.client_calls = [PendingCall(call_id, name, "".join(args)) for call_id, (name, args) in calls]
        return self._message
