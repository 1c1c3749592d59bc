"""The data of a turn for its access log line, collected while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..agent_request import AgentRequest
from ..errors import OpenAICompatError
from ..events import Finished, FinishReason, Paused, ToolCallReady
from ..policies.hooks import CancelledBy
from ..wire.reducer import Item, Usage

Finish: TypeAlias = FinishReason | Literal["paused"]

Outcome: TypeAlias = Literal["ok", "paused", "refused", "failed", "cancelled", "superseded", "timeout", "shutdown"]
"""The outcome of a request."""

OUTCOMES: dict[CancelledBy | None, Outcome] = {
    "client": "cancelled",
    "superseded": "superseded",
    "deadline": "timeout",
    "shutdown": "shutdown",
}


def finish_of(end: Paused | Finished) -> Finish:
    """Return the chat API's finish reason of an agent's end; "paused" if a person is asked."""
    if isinstance(end, Finished):
        return end.reason
    asked = any([call.waits_for == "approval" for call in end.pending])
    return "paused" if asked else "tool_calls" if end.pending else "stop"


@dataclass(slots=True)
class TurnLog:
    """One turn, with all its runs, for the access log line. Unknown values are None.

    Attributes:
        api: as in `TurnInfo`, like the next three.
        queued: seconds that the turn waited for a slot; None until it has one.
        first: time of the agent's first output (`time.monotonic`).
        asks: the tools that a person must approve before the turn continues.
        outcome: the outcome; None while the turn runs, and if no agent was started.
        error: code of the failure.
    """

    api: str
    agent: str
    request: AgentRequest
    response_id: str
    queued: float | None = None
    first: float | None = None
    tool_calls: int = 0
    finish: Finish | None = None
    asks: tuple[str, ...] | None = None
    usage: Usage | None = None
    outcome: Outcome | None = None
    error: str | None = None

    def note(self, item: Item) -> None:
        """Record an event that is not text."""
        if isinstance(item, Finished):
            self.finish = item.reason
        elif isinstance(item, ToolCallReady):
            self.tool_calls += 1
        elif isinstance(item, Paused):
            self.finish = finish_of(item)
            if self.finish == "paused":
                self.asks = tuple([call.name for call in item.pending if call.waits_for == "approval"])

    def end(self, usage: Usage, error: OpenAICompatError | None, cancelled: CancelledBy | None) -> None:
        """Record the outcome: success if there is no error and no cancellation."""
        self.usage = usage if usage.reported else None
        self.error = None if error is None else error.code or error.type
        if error is None and cancelled is None:
            self.outcome = "paused" if self.finish == "paused" else "ok"
        else:
            self.outcome = OUTCOMES.get(cancelled, "failed")
