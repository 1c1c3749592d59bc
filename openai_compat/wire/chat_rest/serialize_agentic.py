"""The stream of an agentic turn: one `{"type", "data", "timestamp"}` frame per action of the agent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, assert_never

from ...errors import OpenAICompatError
from ...events import (
    Citation,
    Compacted,
    Finished,
    MediaDelta,
    MessageBreak,
    Notice,
    Paused,
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
from ..errors import envelope
from ..json import sse
from ..presentation import Presentation
from ..reducer import Item
from .forms import FinishedTurn, text_in
from .serialize import decode_arguments, status_of
from .types import Message

Event: TypeAlias = tuple[str, Mapping[str, Any]]

EVENTS = (
    "user_message",
    "session:start",
    "thinking:start",
    "thinking:update",
    "thinking:end",
    "step:start",
    "step:complete",
    "text:delta",
    "tool:call",
    "tool:result",
    "approval:required",
    "fallback",
    "progress",
    "notice",
    "compaction",
    "summary",
    "complete",
    "message_saved",
    "error",
)
"""Every event `type`, roughly in order of appearance."""


@dataclass(frozen=True, slots=True)
class AgenticSession:
    """The data of an agentic turn before it begins. `clock` returns milliseconds."""

    id: str
    conversation: str
    goal: str
    model: str
    provider: str
    requested_model: str | None
    requested_provider: str | None
    configured_providers: list[str]
    user: Message | None
    messages: int
    show_thinking: bool
    clock: Callable[[], int]


@dataclass(slots=True)
class AgenticForm:
    """Serializes one turn of an agentic session as stream frames."""

    session: AgenticSession
    _thinking: bool = False
    _step: int = 0
    _fallbacks: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    _begun: dict[str, int] = field(default_factory=dict[str, int])
    _names: dict[str, str] = field(default_factory=dict[str, str])
    _view: Presentation = field(default_factory=lambda: Presentation("hidden"))

    def begin(self) -> bytes:
        """Return the frames before the agent starts: the user's message and the session's data."""
        session = self.session
        start = {
            "sessionId": session.id,
            "conversationId": session.conversation,
            "goal": session.goal,
            "model": session.model,
            "provider": session.provider,
            "configuredProviders": session.configured_providers,
            # A key of profClaw's API. Only the agent knows which providers are cooling down.
            "cooldownProviders": list[str](),
        }
        return self._user_message() + self._write("session:start", start)

    def _user_message(self) -> bytes:
        user = self.session.user
        if user is None:
            return b""
        # profClaw's keys; here the conversation is compacted only while the agent runs, as reported by `compaction`.
        count = {"compactionApplied": False, "messageCount": self.session.messages}
        return self._write("user_message", {"id": user["id"], "content": user["content"], **count})

    def feed(self, items: list[Item], shown: list[Item]) -> bytes:
        """Return the frames for the agent's items, in order; `shown` is only used by other formats."""
        frames: list[bytes] = []
        text: list[Item] = []
        for item in items:
            if isinstance(item, str | TextDelta | RefusalDelta | MessageBreak):
                # Consecutive texts become one frame: an agent may emit one word at a time.
                text += self._view.show([item])
                continue
            frames.append(self._write_text(text))
            frames += [self._write(kind, data) for kind, data in self._to_events(item)]
            text = []
        frames.append(self._write_text(text))
        return b"".join(frames)

    def end(self, turned: FinishedTurn) -> bytes:
        """Return the closing frames."""
        record, saved = turned.record, turned.assistant
        closing = [self._write(*event) for event in self._end_thinking()]
        # After the reasoning, before the summary: clients show the approval request where the turn stopped.
        closing += [self._write("approval:required", approval) for approval in turned.approvals]
        summary = {"summary": saved["content"], "artifacts": turned.artifacts, "nextSteps": list[str]()}
        closing.append(self._write("summary", summary))
        closing.append(self._write("complete", self._completion_data(turned, record.finish_reason)))
        closing.append(self._write("message_saved", {"id": saved["id"]}))
        return b"".join(closing)

    def _completion_data(self, turned: FinishedTurn, reason: str) -> Mapping[str, Any]:
        session, usage = self.session, turned.usage
        return {
            "sessionId": session.id,
            "model": turned.model,
            "provider": turned.provider,
            "requestedModel": session.requested_model,
            "requestedProvider": session.requested_provider,
            "usedFallback": bool(self._fallbacks),
            "fallbackAttempts": self._fallbacks,
            # An agent that reports no steps counts as one step.
            "totalSteps": max(self._step, 1),
            "totalTokens": usage["totalTokens"],
            "inputTokens": usage["promptTokens"],
            "outputTokens": usage["completionTokens"],
            "stopReason": reason,
            "toolCalls": list(turned.record.calls.values()),
            "pendingApprovals": turned.approvals,
            "artifacts": turned.artifacts,
        }

    def _write_text(self, shown: list[Item]) -> bytes:
        text = text_in(shown)
        if not text:
            return b""
        ended = b"".join([self._write(*event) for event in self._end_thinking()])
        return ended + self._write("text:delta", {"content": text})

    def _write(self, kind: str, data: Mapping[str, Any]) -> bytes:
        return sse({"type": kind, "data": data, "timestamp": self.session.clock()})

    def _to_events(self, item: Item) -> Iterator[Event]:
        match item:
            case ReasoningDelta():
                yield from self._think(item.text)
            case ToolCallReady():
                yield from self._end_thinking()
                yield from self._call_events(item)
            case ToolResult():
                yield "tool:result", self._result_data(item)
            case Progress():
                yield from self._end_thinking()
                yield self._progress_event(item)
            case Notice():
                yield "notice", {"message": item.message, "level": item.level}
            case Compacted():
                yield "compaction", {"summary": item.summary}
            case Finished() | Paused():
                yield from self._end_thinking()
            case str() | TextDelta() | RefusalDelta() | MessageBreak() | Citation() | UsageReported():
                return
            case ToolCallStarted() | ToolCallDelta() | MediaDelta():
                return
            case _:
                assert_never(item)

    def _think(self, text: str) -> Iterator[Event]:
        if not self.session.show_thinking or not text:
            return
        if not self._thinking:
            self._thinking = True
            yield "thinking:start", {"step": self._step}
        yield "thinking:update", {"content": text}

    def _end_thinking(self) -> Iterator[Event]:
        if self._thinking:
            self._thinking = False
            yield "thinking:end", {"step": self._step}

    def _call_events(self, call: ToolCallReady) -> Iterator[Event]:
        if call.executor == "agent":
            self._begun[call.call_id], self._names[call.call_id] = self.session.clock(), call.name
            arguments = decode_arguments(call.arguments)
            named = {"id": call.call_id, "toolCallId": call.call_id, "name": call.name}
            # Both names: clients of this API read either.
            yield "tool:call", {**named, "args": arguments, "arguments": arguments, "step": self._step}

    def _result_data(self, result: ToolResult) -> Mapping[str, Any]:
        call_id, status = result.call_id, status_of(result)
        now = self.session.clock()
        return {
            "id": call_id,
            "toolCallId": call_id,
            "name": self._names.get(call_id, ""),
            "result": result.output if status == "success" else None,
            "status": status,
            "error": None if status == "success" else result.output,
            "duration": now - self._begun.get(call_id, now),
        }

    def _progress_event(self, progress: Progress) -> Event:
        data = progress.data
        if progress.kind == "step":
            return self._step_event(progress)
        if progress.kind == "fallback":
            self._fallbacks.append(data)
            return "fallback", data
        about = {"kind": progress.kind, "id": progress.id, "status": progress.status}
        return "progress", {**about, "done": progress.done, "data": data}

    def _step_event(self, progress: Progress) -> Event:
        data = progress.data
        self._step = step = int(data.get("step", self._step))
        most, used, budget = data.get("max_steps"), data.get("used_budget"), data.get("max_budget")
        if not progress.done:
            return "step:start", {"step": step, "maxSteps": most, "usedBudget": used, "maxBudget": budget}
        left = None if budget is None or used is None else max(0, budget - used)
        steps = None if most is None else max(0, most - step)
        about = {"step": step, "usedBudget": used, "budgetRemaining": left, "stepsRemaining": steps}
        return "step:complete", {**about, "toolCallsInStep": data.get("tool_calls", 0)}


def agentic_error(error: OpenAICompatError, clock: Callable[[], int]) -> bytes:
    """Return the frame that ends the stream of a failed turn."""
    fields = envelope(error)["error"]
    return sse({"type": "error", "data": fields, "timestamp": clock()})
