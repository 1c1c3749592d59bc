"""What the access line tells of a turn, written down while it runs."""

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
"""What became of a request."""

OUTCOMES: dict[CancelledBy | None, Outcome] = {
    "client": "cancelled",
    "superseded": "superseded",
    "deadline": "timeout",
    "shutdown": "shutdown",
}


def finish_of(end: Paused | Finished) -> Finish:
    """How an agent has ended, as clients of chat are told; "paused" where a person is asked."""
    if isinstance(end, Finished):
        return end.reason
    asked = any([call.waits_for == "approval" for call in end.pending])
    return "paused" if asked else "tool_calls" if end.pending else "stop"


@dataclass(slots=True)
class TurnLog:
    """One turn, with all its runs, for the access line. What is not known is None.

    Attributes:
        api: as hooks are told (`TurnInfo`), and so are the next three.
        queued: seconds that it has waited for a slot; None as long as it has none.
        first: when its agent has said something (`time.monotonic`).
        asks: the tools that a person has to allow before it goes on.
        outcome: what became of it; None while it runs, and if no agent was started.
        error: the code of its failure.
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
        """An event that is no text."""
        if isinstance(item, Finished):
            self.finish = item.reason
        elif isinstance(item, ToolCallReady):
            self.tool_calls += 1
        elif isinstance(item, Paused):
            self.finish = finish_of(item)
            if self.finish == "paused":
                self.asks = tuple([call.name for call in item.pending if call.waits_for == "approval"])

    def end(self, usage: Usage, error: OpenAICompatError | None, cancelled: CancelledBy | None) -> None:
        """It is over: whole, without an error or somebody who has cancelled it."""
        self.usage = usage if usage.reported else None
        self.error = None if error is None else error.code or error.type
        if error is None and cancelled is None:
            self.outcome = "paused" if self.finish == "paused" else "ok"
        else:
            self.outcome = OUTCOMES.get(cancelled, "failed")
