"""Tool calls that wait for somebody's yes: asked by one turn, decided by a later request, once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..backend import Decision, Resume
from ..errors import Conflict, NotFound
from ..events import PendingCall
from ..serializers.encoding import from_stored_json, stored_json
from ..stores.port import Approval, Key, Store

ASKED_FOR = 24 * 3600.0
"""Seconds for which a question can be answered."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Decisions on the way to the agent. `approvals` are what they decide, by the id of each question."""

    decisions: Mapping[str, Decision]
    approvals: Mapping[str, Approval]

    def resume(self, results: Resume | None) -> Resume:
        """What the agent is given: decisions by call id, and the state that it left."""
        by_call = {self.approvals[asked].call_id: decision for asked, decision in self.decisions.items()}
        states = [from_stored_json(approval.state) for approval in self.approvals.values()]
        return Resume(results.results if results is not None else {}, by_call, states[-1] if states else None)


async def find_answers(store: Store, principal: str, decisions: Mapping[str, Decision]) -> Answers:
    """What the decisions are about. Raises NotFound, and Conflict for what was decided already or too late."""
    approvals: dict[str, Approval] = {}
    for identifier in decisions:
        found = await store.approval(Key(principal, identifier))
        if found is None:
            raise NotFound("No approval has this id.", code="approval_not_found", param="input")
        if found.status != "pending":
            raise _too_late(found.status)
        approvals[identifier] = found
    return Answers(decisions, approvals)


async def decide(store: Store, principal: str, answers: Answers) -> None:
    """Make the decisions count. Only one request ever gets past this; the others get Conflict."""
    for identifier, decision in answers.decisions.items():
        status: Literal["approved", "denied"] = "approved" if decision.approved else "denied"
        said = stored_json({"reason": decision.reason, "arguments": decision.arguments})
        if not await store.decide(Key(principal, identifier), status, said):
            raise _too_late("decided")


def questions(
    calls: Mapping[str, PendingCall], state: Mapping[str, Any] | None, turn: str, conversation: str | None, now: float
) -> tuple[Approval, ...]:
    """What is to be kept of the calls that a turn asks about, by the id of each question."""
    kept = stored_json(state)
    return tuple(
        [
            Approval(
                id=identifier,
                created=now,
                expires=now + ASKED_FOR,
                turn=turn,
                call_id=call.call_id,
                conversation=conversation,
                tool=call.name,
                arguments=call.arguments,
                digest=digest(call.name, call.arguments),
                state=kept,
            )
            for identifier, call in calls.items()
        ]
    )


def digest(tool: str, arguments: str) -> str:
    """What a decision is bound to: the tool and its arguments, to the letter."""
    return hashlib.sha256(f"{tool}\0{arguments}".encode("utf-8", "surrogatepass")).hexdigest()


def _too_late(status: str) -> Conflict:
    if status == "expired":
        return Conflict("The time to decide this is over.", code="approval_expired", should_retry=False)
    return Conflict("This was decided already.", code="approval_decided", should_retry=False)
