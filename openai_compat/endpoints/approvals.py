"""Tool calls that wait for somebody's yes: asked by one turn, decided by a later request, once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
        states = [from_stored_json(approval.state)["state"] for approval in self.approvals.values()]
        return Resume(results.results if results is not None else {}, by_call, states[-1] if states else None)

    @property
    def asked(self) -> Sequence[Sequence[str]]:
        """All questions of each turn that is decided about, those too about which nothing is said here."""
        return list({tuple(from_stored_json(approval.state)["asked"]) for approval in self.approvals.values()})


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
    """Make the decisions count. Only one request ever gets past this for each turn; the others get Conflict.

    The turn goes on from what its agent has left, once. So whoever decides one of its questions has to win the first
    one, and those that are not decided here end: the agent asks again about what it still wants to know.
    """
    for asked in answers.asked:
        for place, identifier in enumerate(asked):
            decision = answers.decisions.get(identifier)
            won = await store.decide(Key(principal, identifier), *_written(decision))
            if not won and (place == 0 or decision is not None):
                raise _too_late("decided")


def _written(decision: Decision | None) -> tuple[Literal["approved", "denied"], str]:
    if decision is None:
        return "denied", stored_json({"reason": "Another question of the same turn was decided."})
    return "approved" if decision.approved else "denied", stored_json(asdict(decision))


def questions(
    calls: Mapping[str, PendingCall], state: Mapping[str, Any] | None, turn: str, conversation: str | None, now: float
) -> tuple[Approval, ...]:
    """What is to be kept of the calls that a turn asks about, by the id of each question."""
    kept = stored_json({"state": state, "asked": list(calls)})
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
