"""The contract of an agent's events for one request: order, tools, stop sequences, length.

Turns the agent's items into a well-formed list of events, with exactly one terminal event at its end. Pure: no I/O, no
clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, assert_never

from ..agent_request import AgentRequest, FunctionTool
from ..backend import CHARACTERS_PER_TOKEN
from ..errors import AgentError
from ..events import (
    EVENT_TYPES,
    AgentEvent,
    Citation,
    Compacted,
    Executor,
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
from ..wire.json import is_same_json
from ..wire.utf16 import HalfJoiner, has_halves, join_event_texts, join_halves
from .event_fields import declared_fields
from .stop_sequences import StopScanner

BROKEN = frozenset(["event_order", "invalid_event", "invalid_usage", "tool_choice_violated"])
"""Error codes for a broken contract: the agent's output is invalid, whatever it means."""

Prose: TypeAlias = type[TextDelta] | type[ReasoningDelta] | type[RefusalDelta]
"""Events that carry text in pieces; a piece may end inside a surrogate pair."""

STOPPED = Finished("stop")
"""The most common end of an agent, shared because creating a frozen object is slow."""


@dataclass(slots=True)
class _OpenCall:
    name: str
    executor: Executor
    pieces: list[str] = field(default_factory=list[str])
    halves: HalfJoiner | None = None  # created for the first text that is not ASCII
    ready: bool = False
    answered: bool = False

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


class EventContract:
    """Turns an agent's items into events in contract order, and marks which side runs each tool.

    Attributes:
        finished: True once the terminal event is out; later output is dropped.
        ended_early: True if the server, not the agent, ended the turn; the agent must be stopped.
        silent: True until the agent has produced output, a call or media.
        passing: True while the caller may pass on ASCII text unchecked, as long as there is `room`.
        room: number of characters that the answer may still have.
    """

    # Defaults that most turns leave unchanged, or change late, are class attributes.
    finished = False
    ended_early = False
    silent = True
    passing = False
    room = math.inf
    _scanner: StopScanner | None = None
    _left: int | None = None
    _spoke = False
    _break_due = False
    _own_calls = 0
    _dropped: frozenset[str] = frozenset()

    def __init__(self, request: AgentRequest, *, counts_tokens: bool) -> None:
        sampling = request.sampling
        self._request = request
        self._calls: dict[str, _OpenCall] = {}
        self._resume = request.resume
        if sampling.stop:
            self._scanner = StopScanner(sampling.stop)
        self._halves: dict[Prose, HalfJoiner] = {}  # of the kinds of text that were not all ASCII
        if sampling.max_tokens is not None and not counts_tokens:  # an agent that counts tokens is not cut
            self._left = sampling.max_tokens
            # No tokenizer, since the model behind the agent is unknown: four characters count as one token.
            self.room = self._left * CHARACTERS_PER_TOKEN

    def feed(self, item: AgentEvent | str) -> list[AgentEvent]:  # noqa: C901  (one arm for each event)
        """Return the events that `item` becomes. Raises AgentError if the agent breaks the contract."""
        self.passing = False
        if self.finished:
            return []
        match item:
            case str():
                return self._feed_text(item)
            case UsageReported():
                return self._feed_usage(_check_usage(item))
            case _ if isinstance(item, EVENT_TYPES) and (field := wrong_field(item)) is not None:
                return _refuse(item, field)
            case TextDelta():
                return self._feed_text_delta(item)
            case ReasoningDelta() | RefusalDelta():
                events = self._limit_text(self._join_halves(item.text, type(item)), type(item))
                signed = isinstance(item, ReasoningDelta) and item.signature is not None and not self.finished
                return [*events, replace(item, text="")] if signed else events
            case ToolCallDelta():
                return self._feed_call_delta(item)
            case ToolCallStarted() | ToolCallReady() | ToolResult() | MessageBreak():
                self.silent = self.silent and isinstance(item, MessageBreak)
                return self.flush() + self._feed_after_text(item)
            case Citation() | MediaDelta() | Progress() | Notice() | Compacted():
                self.silent = self.silent and not isinstance(item, MediaDelta)
                return [join_event_texts(item)]
            case Paused():
                self.silent = self.silent and not item.pending
                return self._feed_paused(item)
            case Finished():
                self.silent = self.silent and item.reason == "stop"
                return self._end(item.reason, item.stop_sequence, item.state)
            case _ as wrong:
                return _refuse(wrong)

    def end(self) -> list[AgentEvent]:
        """Return the events due after the agent has returned; empty if the terminal event is already out."""
        return [] if self.finished else self._end("stop")

    # text

    def can_pass(self, text: str) -> bool:
        """True if a text within `room` can be passed on unchanged, with nothing before it; the caller then reduces the room.

        While `passing` is True, ASCII text needs no such call, which would be half of its cost.
        """
        if self.finished or self._scanner is not None or self._break_due or (not text.isascii() and has_halves(text)):
            return False
        if TextDelta in self._halves and self._halves[TextDelta].held:
            return False
        if text:
            self._spoke = self.passing = True
            self.silent = False
        return True

    def _join_halves(self, text: str, kind: Prose) -> str:
        """Return the known part of a text that may end inside a surrogate pair."""
        if text.isascii() and kind not in self._halves:
            return text
        return self._halves.setdefault(kind, HalfJoiner()).feed(text)

    def _feed_text(self, text: str) -> list[AgentEvent]:
        text = self._join_halves(text, TextDelta)
        if self._scanner is not None:
            text = self._scanner.feed(text)
        events = self._limit_text(text, TextDelta)
        if self._scanner is not None and self._scanner.found is not None and not self.finished:
            events += self._cut("stop", self._scanner.found)
        return events

    def _feed_text_delta(self, item: TextDelta) -> list[AgentEvent]:
        """Pass on the text with its phase, and its token probabilities only if requested and nothing was cut."""
        events = self._feed_text(item.text)
        logprobs = item.logprobs if self._request.sampling.top_logprobs is not None else None
        if item.phase is None and logprobs is None:
            return events
        whole = TextDelta(item.text) in events
        return [
            TextDelta(e.text, logprobs if whole else None, item.phase) if isinstance(e, TextDelta) else e
            for e in events
        ]

    def _limit_text(self, text: str, kind: Prose) -> list[AgentEvent]:
        if len(text) <= self.room:
            self.room -= len(text)
            return self._text_events(text, kind)
        room, self.room = int(self.room), 0
        return [*self._text_events(text[:room], kind), *self._cut("length")]

    def _text_events(self, text: str, kind: Prose) -> list[AgentEvent]:
        """Return the text, preceded by a message break if a tool result came since the last text."""
        if not text:
            return []
        self.silent = False
        if kind is ReasoningDelta:
            return [kind(text)]
        due, self._break_due, self._spoke = self._break_due, False, True
        return [MessageBreak(), kind(text)] if due else [kind(text)]

    def _feed_usage(self, usage: UsageReported) -> list[AgentEvent]:
        """Replace the estimate for the output so far with the reported number of tokens."""
        if self._left is None or not usage.output_tokens:
            return [usage]
        self._left -= usage.output_tokens
        self.room = max(self._left, 0) * CHARACTERS_PER_TOKEN
        # The report itself is passed on: `usage` shows by how much the answer is too long.
        return [usage] if self._left >= 0 else [usage, *self._cut("length")]

    def flush(self) -> list[AgentEvent]:
        """Release text that was held back for a stop sequence or the second half of a surrogate pair.

        The released text may end the turn.
        """
        if self.finished:
            return []
        events = self._limit_text(self._scanner.flush(), TextDelta) if self._scanner is not None else []
        for kind, halves in self._halves.items():
            if halves.held and not self.finished:
                events += self._limit_text(halves.flush(), kind)
        return events

    def _feed_after_text(self, item: ToolCallStarted | ToolCallReady | ToolResult | MessageBreak) -> list[AgentEvent]:
        if self.finished:  # by the flushed text
            return []
        match item:
            case ToolCallStarted():
                return self._feed_call_started(item)
            case ToolCallReady():
                return self._feed_call_ready(item)
            case ToolResult():
                return self._feed_result(item)
            case MessageBreak():
                self._break_due = self._spoke = False
                return [item]
            case _:
                assert_never(item)

    # tools

    def _feed_call_started(self, event: ToolCallStarted) -> list[AgentEvent]:
        """Accept a repeated start of the same call, unless it is complete or differs."""
        if event.call_id in self._dropped:
            return []
        known = self._calls.get(event.call_id)
        if known is None:
            return self._start_call(event.call_id, event.name, event.executor)
        if known.ready:
            raise _order_error("The agent began a tool call with an id that it had used.")
        self._check_same(known, event)
        return []

    def _start_call(self, call_id: str, name: str, executor: Executor | None) -> list[AgentEvent]:
        choice = self._request.tool_choice
        # Only tools that the request lists are the client's: agentic clients would take any call for theirs, answer "no such
        # tool" and retry, some of them endlessly.
        who = executor or ("client" if name in choice.names or name in choice.withheld else "agent")
        if who == "client":
            if name not in choice.names:
                text = "The agent called a tool that this request does not allow."
                raise AgentError(text, code="tool_choice_violated")
            if not self._request.parallel_tool_calls and self._client_calls():
                self._dropped |= {call_id}
                return []
        elif self._own_calls == self._request.sampling.max_tool_calls:
            return self._cut("length")
        else:
            self._own_calls += 1
        self._calls[call_id] = _OpenCall(name, who)
        return [ToolCallStarted(call_id, name, who)]

    def _feed_call_delta(self, event: ToolCallDelta) -> list[AgentEvent]:
        if event.call_id in self._dropped or not event.arguments:
            return []
        call = self._calls.get(event.call_id)
        if call is None or call.ready:
            raise _order_error("The agent sent arguments for a tool call that is not open.")
        arguments = event.arguments
        if call.halves is not None or not arguments.isascii():
            call.halves = call.halves or HalfJoiner()
            arguments = call.halves.feed(arguments)
        call.pieces.append(arguments)
        return [ToolCallDelta(event.call_id, arguments)] if arguments else []

    def _feed_call_ready(self, event: ToolCallReady) -> list[AgentEvent]:
        if event.call_id in self._dropped:
            return []
        events = [] if event.call_id in self._calls else self._start_call(event.call_id, event.name, event.executor)
        call = self._calls.get(event.call_id)
        if call is None:
            return events
        if call.answered:
            raise _order_error("The agent used the id of a tool call for another one.")
        self._check_same(call, event)
        if call.ready:  # reported twice
            return []
        sent, arguments = call.arguments, event.arguments
        arguments = arguments if arguments.isascii() else join_halves(arguments)
        if arguments.startswith(sent) and len(arguments) > len(sent):
            rest = arguments[len(sent) :]
            call.pieces.append(rest)
            call.halves = None  # the held half is part of the rest
            events.append(ToolCallDelta(event.call_id, rest))
        return events + self._complete_call(event.call_id, call)

    def _complete_call(self, call_id: str, call: _OpenCall) -> list[AgentEvent]:
        call.ready = True
        events: list[AgentEvent] = []
        if call.halves is not None and (half := call.halves.flush()):
            call.pieces.append(half)
            events.append(ToolCallDelta(call_id, half))
        if not call.pieces and call.name in [t.name for t in self._request.tools if isinstance(t, FunctionTool)]:
            call.pieces.append("{}")  # a function's arguments are JSON text: clients cannot parse an empty string
            events.append(ToolCallDelta(call_id, "{}"))
        return [*events, ToolCallReady(call_id, call.name, call.arguments, call.executor)]

    def _feed_result(self, event: ToolResult) -> list[AgentEvent]:
        if not event.output.isascii() and has_halves(event.output):
            event = replace(event, output=join_halves(event.output))
        call = self._calls.get(event.call_id)
        self._break_due = self._spoke  # otherwise the texts would run together: "Let me check.It is sunny."
        if self._resume is not None and not self._resume.may_run(event.call_id):
            event = replace(event, denied=True)
        if call is None:
            return [*self._earlier_call(event.call_id), event]
        if call.executor == "client":
            raise _order_error("The agent answered a tool call that is the client's.")
        if call.answered:
            raise _order_error("The agent gave two results for one tool call.")
        call.answered = True
        return [event] if call.ready else [*self._complete_call(event.call_id, call), event]

    def _earlier_call(self, call_id: str) -> list[AgentEvent]:
        """Return the events of an earlier turn's call that belongs to a result in a resumed run, as people approved it."""
        if self._resume is None:
            raise _order_error("The agent gave a result for a tool call that it has not made.")
        asked = self._resume.calls.get(call_id)
        if asked is None:
            return []
        decision = self._resume.decisions.get(call_id)
        changed = None if decision is None else decision.arguments
        arguments = asked.arguments if changed is None else changed
        self._calls[call_id] = call = _OpenCall(asked.name, "agent", [arguments], answered=True)
        started = ToolCallStarted(call_id, call.name, "agent")
        return [started, ToolCallDelta(call_id, call.arguments), *self._complete_call(call_id, call)]

    def _check_same(self, call: _OpenCall, reported: ToolCallStarted | ToolCallReady | PendingCall) -> None:
        """Raise AgentError if two events describe the same call differently."""
        executor = None if isinstance(reported, PendingCall) else reported.executor
        if reported.name not in ("", call.name) or executor not in (None, call.executor):
            raise _order_error("The agent told of one tool call that it is two different ones.")
        sent, whole = call.arguments, "" if isinstance(reported, ToolCallStarted) else reported.arguments
        whole = whole if whole.isascii() else join_halves(whole)
        if whole and not (whole == sent if call.ready else whole.startswith(sent)) and not is_same_json(sent, whole):
            raise _order_error("The arguments of a tool call are not those that the agent had sent piece by piece.")

    def _client_calls(self) -> list[tuple[str, _OpenCall]]:
        return [(call_id, call) for call_id, call in self._calls.items() if call.executor == "client"]

    def _pending_calls(self) -> tuple[PendingCall, ...]:
        return tuple([PendingCall(call_id, call.name, call.arguments) for call_id, call in self._client_calls()])

    # the end

    def _feed_paused(self, event: Paused) -> list[AgentEvent]:
        if any([wrong_field(call) is not None for call in event.pending]):
            return _refuse(event, "pending")
        events = self.flush()
        approvals = tuple([call for call in event.pending if call.waits_for == "approval"])
        if len({call.call_id for call in event.pending}) < len(event.pending):
            raise _order_error("The agent waits for two tool calls with one id.")
        for call in event.pending:
            known = self._calls.get(call.call_id)
            if known is not None:
                self._check_same(known, call)
            if call.waits_for == "result" and (known is None or not known.ready):
                events += self.feed(ToolCallReady(call.call_id, call.name, call.arguments, "client"))
        if self.finished:
            return events
        if not approvals:
            return events + self._end("stop", state=event.state)
        self.finished = True
        return [*events, Paused((*self._pending_calls(), *approvals), event.state)]

    def _end(
        self, reason: FinishReason, stop_sequence: str | None = None, state: Mapping[str, Any] | None = None
    ) -> list[AgentEvent]:
        events = self.flush() if self._scanner is not None or self._halves else []
        if self.finished:
            return events
        if self._request.tool_choice.required and not self._client_calls() and reason in ("stop", "tool_calls"):
            raise AgentError("The agent did not call the tool that this request requires.", code="tool_choice_violated")
        return events + self._terminal_events(reason, stop_sequence, state)

    def _cut(self, reason: FinishReason, stop_sequence: str | None = None) -> list[AgentEvent]:
        self.ended_early = True
        # No state: it would describe more than the client got.
        return self._terminal_events(reason, stop_sequence, None)

    def _terminal_events(
        self, reason: FinishReason, stop_sequence: str | None, state: Mapping[str, Any] | None
    ) -> list[AgentEvent]:
        self.finished = True
        if reason not in ("stop", "tool_calls"):
            # A truncated call is not marked as ready: clients would run half of it.
            return [Finished(reason, state=state)]
        calls = self._client_calls() if self._calls else ()
        if not calls and stop_sequence is None and state is None:
            return [STOPPED]
        if not calls:
            return [Finished("stop", stop_sequence, state)]
        events = [event for call_id, call in calls if not call.ready for event in self._complete_call(call_id, call)]
        return [*events, Paused(self._pending_calls(), state)]


def _check_usage(usage: UsageReported) -> UsageReported:
    details = (usage.cached_tokens, usage.reasoning_tokens, usage.cache_write_tokens)
    numbers = (usage.input_tokens, usage.output_tokens, *details)
    if any(number is not None and (type(number) is not int or number < 0) for number in numbers):
        raise AgentError("The agent reported a token count that is not a whole number.", code="invalid_usage")
    return usage


def _order_error(text: str) -> AgentError:
    return AgentError(text, code="event_order")


def _refuse(wrong: object, field: str | None = None) -> list[AgentEvent]:
    where = "" if field is None else f", its field '{field}'"
    raise AgentError("The agent yielded something that is not an event.", code="invalid_event") from TypeError(
        f"an agent yields str or well-formed events, not {type(wrong).__name__}{where}: {wrong!r:.200}"
    )


def wrong_field(event: object) -> str | None:
    """Return the first field of an event whose value does not match its declared type; None if all match."""
    kind: Any = type(event)
    for name, classes, constants, holds in declared_fields(kind):
        value = getattr(event, name)
        if not isinstance(value, classes):
            if value not in constants:
                return name
        elif holds is not None and value is not None and not holds(value):
            return name
    return None
