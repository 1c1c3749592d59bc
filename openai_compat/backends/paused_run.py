"""A framework's paused run: the calls that wait for decisions or results, and the answers so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from ..agent_request import Decision, Resume
from ..events import Paused, PendingCall
from ..messages import ToolMessage

SUPERSEDED = "The user sent another message instead."


@dataclass(frozen=True, slots=True)
class PausedRun:
    """A framework's paused run, which resumes only with the answers to all of its calls.

    Attributes:
        saved: the framework's state of the run, as JSON.
        asked: the calls of the pause, in order.
        decisions: the decisions so far, by call id.
        results: the results so far, by call id.
    """

    saved: Mapping[str, Any]
    asked: tuple[PendingCall, ...]
    decisions: Mapping[str, Decision] = field(default_factory=dict[str, Decision])
    results: Mapping[str, ToolMessage] = field(default_factory=dict[str, ToolMessage])

    @classmethod
    def from_resume(cls, resume: Resume | None, *, can_close: bool = False) -> PausedRun | None:
        """Return the run that a request resumes, with the request's answers; None to start from the conversation.

        If the user has sent another message instead, the result is None, unless the framework `can_close` a run with a
        message: then the run is returned with all open calls denied.
        """
        if resume is None or resume.state is None or (resume.superseded and not can_close):
            return None
        paused = _paused_run().validate_python(resume.state)
        questions = [call.call_id for call in paused.open_calls if call.waits_for == "approval"]
        calls = [call for call in paused.open_calls if call.waits_for == "result"]
        decisions: Mapping[str, Decision] = resume.decisions
        results: Mapping[str, ToolMessage] = resume.results
        if resume.superseded:
            decisions = dict.fromkeys(questions, Decision(approved=False, reason=SUPERSEDED))
            results = {c.call_id: ToolMessage(c.call_id, SUPERSEDED, c.name, is_error=True) for c in calls}
        return cls(
            paused.saved,
            paused.asked,
            {**paused.decisions, **{call_id: decisions[call_id] for call_id in questions if call_id in decisions}},
            {**paused.results, **{call.call_id: results[call.call_id] for call in calls if call.call_id in results}},
        )

    @property
    def open_calls(self) -> tuple[PendingCall, ...]:
        """The calls that still wait for an answer."""
        given = self.decisions.keys() | self.results.keys()
        return tuple([call for call in self.asked if call.call_id not in given])

    @property
    def denied(self) -> frozenset[str]:
        """The ids of the denied calls, which frameworks report like other calls or like failed ones."""
        return frozenset([call_id for call_id, decision in self.decisions.items() if not decision.approved])

    @property
    def pause_event(self) -> Paused:
        """The event that ends the turn with the calls that still wait."""
        return Paused(self.open_calls, _paused_run().dump_python(self, mode="json"))


@cache
def _paused_run() -> TypeAdapter[PausedRun]:
    # Built on first use: building takes longer than importing the rest of a backend.
    return TypeAdapter(PausedRun)
