"""A run of a framework that waits for decisions and results: what it has asked for, and what is given by now."""

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
    """A run of a framework that goes on with the answers to all that it has asked for, at once.

    Attributes:
        saved: the framework's own state of it, as JSON.
        asked: the calls that it waits for, in their order.
        decisions: what was decided about them by now, by call id.
        results: the results that are there by now, by call id.
    """

    saved: Mapping[str, Any]
    asked: tuple[PendingCall, ...]
    decisions: Mapping[str, Decision] = field(default_factory=dict[str, Decision])
    results: Mapping[str, ToolMessage] = field(default_factory=dict[str, ToolMessage])

    @classmethod
    def of(cls, resume: Resume | None, *, can_close: bool = False) -> PausedRun | None:
        """The run that a request resumes, with what it brings; None if the agent is to begin with the conversation.

        It is to where the user has sent another message instead. A framework that `can_close` a run with a message is
        given it, with all denied that is open.
        """
        if resume is None or resume.state is None or (resume.superseded and not can_close):
            return None
        paused = _paused_run().validate_python(resume.state)
        questions = [call.call_id for call in paused.waits if call.waits_for == "approval"]
        calls = [call for call in paused.waits if call.waits_for == "result"]
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
    def waits(self) -> tuple[PendingCall, ...]:
        """The calls that it waits for yet."""
        given = self.decisions.keys() | self.results.keys()
        return tuple([call for call in self.asked if call.call_id not in given])

    @property
    def denied(self) -> frozenset[str]:
        """The calls that are not run, which frameworks tell of as of others, or as of those that have failed."""
        return frozenset([call_id for call_id, decision in self.decisions.items() if not decision.approved])

    @property
    def end(self) -> Paused:
        """The end of a turn, with what it waits for yet."""
        return Paused(self.waits, _paused_run().dump_python(self, mode="json"))


@cache
def _paused_run() -> TypeAdapter[PausedRun]:
    # Not when it is imported: it is built for longer than all else of a backend that is ours.
    return TypeAdapter(PausedRun)
