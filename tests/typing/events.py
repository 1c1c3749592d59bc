"""The union of events is closed: a match that omits one is an error. Checked by mypy and pyright, never run."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
from __future__ import annotations

from typing import assert_never, assert_type

from openai_compat import (
    AgentError,
    AgentEvent,
    Citation,
    Compacted,
    Finished,
    MediaDelta,
    MessageBreak,
    Notice,
    OpenAICompatError,
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
from openai_compat.events import Executor, FinishReason


def name(event: AgentEvent) -> str:
    match event:
        case TextDelta() | ReasoningDelta() | RefusalDelta():
            assert_type(event.text, str)
            return event.text
        case ToolCallStarted() | ToolCallReady():
            assert_type(event.executor, Executor | None)
            return event.name
        case Finished():
            assert_type(event.reason, FinishReason)
            return event.reason
        case Paused():
            assert_type(event.pending, tuple[PendingCall, ...])
            return "paused"
        case MessageBreak() | Citation() | MediaDelta() | ToolCallDelta() | ToolResult():
            return "other"
        case Progress() | Notice() | Compacted() | UsageReported():
            return "other"
        case _:
            assert_never(event)


def one_forgotten(event: Finished | Paused) -> str:
    match event:
        case Finished():
            return "finished"
        case _:
            assert_never(event)  # type: ignore[arg-type]


TextDelta("text").text = "other"  # type: ignore[misc]
Finished("done")  # type: ignore[arg-type]
Notice("careful", level="fatal")  # type: ignore[arg-type]
ToolCallStarted("1", "find", "server")  # type: ignore[arg-type]
UsageReported(1)  # type: ignore[call-arg]
MediaDelta("text", "image/png")  # type: ignore[arg-type]

error = AgentError("Closed today.", status=409, code="closed", retry_after=1.5, should_retry=False)


def look(error: OpenAICompatError) -> None:
    assert_type(error.status, int)
    assert_type(error.code, str | None)
    assert_type(error.message, str)
    assert_type(error.retry_after, float | None)


look(error)
AgentError("Closed today.", 409)  # type: ignore[call-arg]
