"""Approvals of tool calls: requested by one turn, decided once, by a later request.

An approval is bound to its principal, agent and conversation, and to the tool and its arguments. A decision from anywhere
else changes nothing: the approval can still be decided in its own conversation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..agent_request import AgentRequest, Decision, Resume
from ..backend import Capabilities
from ..errors import Conflict, InvalidRequest, NotFound
from ..events import PendingCall
from ..stores.port import Store
from ..stores.records import Approval, Grant, Key
from ..wire.json import dumps, from_stored_json, is_json_object, is_same_json, stored_json

APPROVAL_LIFETIME = 24 * 3600.0
"""Seconds until an approval expires."""

SUPERSEDED = Decision(approved=False, reason="The user sent another message instead of deciding.")
UNDECIDED = {"reason": "Another question of the same turn was decided."}


@dataclass(frozen=True, slots=True)
class Binding:
    """The principal, agent and conversation of an approval, which its decision must match."""

    principal: str
    agent: str
    conversation: str | None


@dataclass(frozen=True, slots=True)
class Decisions:
    """Decisions on their way to the agent, and the approvals that they decide, both by the approval's id."""

    decisions: Mapping[str, Decision]
    approvals: Mapping[str, Approval]

    def to_resume(self, results: Resume | None) -> Resume:
        """The agent's resume: results, decisions by call id, and the state with which it paused."""
        by_call = {self.approvals[asked].call_id: decision for asked, decision in self.decisions.items()}
        states = [from_stored_json(approval.state)["state"] for approval in self.approvals.values()]
        asked = [PendingCall(a.call_id, a.tool, a.arguments, "approval") for a in self.approvals.values()]
        given = (results or Resume({})).results
        return Resume(
            given,
            by_call,
            states[-1] if states else None,
            {call.call_id: call for call in asked},
            superseded=all([decision is SUPERSEDED for decision in self.decisions.values()]),
        )

    @property
    def approval_ids_by_turn(self) -> Sequence[Sequence[str]]:
        """The ids of all approvals of each turn that is decided, including those without a decision here."""
        return list({tuple(from_stored_json(approval.state)["asked"]) for approval in self.approvals.values()})


async def load_pending_approvals(store: Store, bound: Binding, decisions: Mapping[str, Decision]) -> Decisions:
    """Load the approvals that the decisions refer to.

    Raises NotFound, and Conflict for an approval of another agent, or one that was decided already or has expired.
    """
    approvals: dict[str, Approval] = {}
    for identifier in decisions:
        # Everything is checked before the agent starts; `record_decisions` settles which request wins.
        found = await store.approval(Key(bound.principal, identifier))
        if found is None or found.conversation != bound.conversation:
            raise approval_not_found_error()
        if found.agent != bound.agent:
            raise approval_elsewhere_error("Another agent has asked this: send the decision to the model that asked.")
        if found.status != "pending":
            raise approval_not_pending_error(found.status)
        approvals[identifier] = found
    if len({approval.turn for approval in approvals.values()}) > 1:
        raise approval_elsewhere_error(
            "These questions were asked by different turns: decide about one turn at a time."
        )
    return Decisions(decisions, approvals)


async def load_superseded_approvals(store: Store, bound: Binding) -> Decisions | None:
    """Deny this agent's pending approvals in the conversation: the user has sent another message instead."""
    pending = await store.approvals(bound.principal, bound.conversation)
    # A message to another agent in the same conversation does not decide these approvals.
    open_ones = {approval.id: approval for approval in pending if approval.agent == bound.agent}
    return Decisions(dict.fromkeys(open_ones, SUPERSEDED), open_ones) if open_ones else None


async def withdraw_approvals(store: Store, principal: str, questions: Iterable[Approval]) -> None:
    """Deny approvals that are no longer in their conversation, since no client can see or decide them."""
    for question in questions:
        await store.decide(Key(principal, question.id), "denied", "null")


def approval_not_found_error() -> NotFound:
    """The error for an approval that is unknown, or belongs to another conversation or principal."""
    return NotFound("No approval has this id in this conversation.", code="approval_not_found", param="input")


def approval_elsewhere_error(text: str) -> Conflict:
    """The error for an approval that must be decided elsewhere."""
    return Conflict(text, code="approval_elsewhere", should_retry=False)


def check_unchanged(approval: Approval, tool: object, arguments: object) -> None:
    """Raise Conflict unless tool and arguments are the ones for which the agent requested approval."""
    if not isinstance(tool, str) or not isinstance(arguments, str) or digest(tool, arguments) != approval.digest:
        raise approval_changed_error()


def check_editable(answers: Decisions, can: Capabilities, param: str) -> None:
    """Raise InvalidRequest for edited arguments that the agent cannot run. The approval stays pending.

    An agent that can only run its own arguments would run those, and the user would mistake them for the edited ones.
    """
    for identifier, decision in answers.decisions.items():
        edited, asked = decision.arguments, answers.approvals[identifier].arguments
        # Programs send the displayed arguments back with every decision.
        if not decision.approved or edited is None or edited == asked or is_same_json(edited, asked):
            continue
        if can.approvals != "edit":
            text = (
                "This agent can run the call only as it has asked about it: approve or deny it without new arguments."
            )
            raise InvalidRequest(text, param=param, code="arguments_not_editable")
        if is_json_object(asked) and not is_json_object(edited):
            text = "The changed arguments have to be a JSON object, as those are that were asked about."
            raise InvalidRequest(text, param=param, code="invalid_value")


def approval_changed_error() -> Conflict:
    """The error for a decision about another tool, or other arguments, than the approval's."""
    text = "What was decided about is not what the agent has asked: another tool, or other arguments."
    return Conflict(text, code="approval_changed", should_retry=False)


async def record_decisions(store: Store, principal: str, answers: Decisions) -> None:
    """Record decisions. For each turn, one request succeeds; the others get Conflict.

    The turn's approvals without a decision are denied: the resumed agent requests them again where needed.
    """
    for asked in answers.approval_ids_by_turn:
        # A turn resumes once, so a request that decides any of its approvals must win the first one.
        for place, identifier in enumerate(asked):
            decision = answers.decisions.get(identifier)
            approved = decision is not None and decision.approved
            record = UNDECIDED if decision is None else asdict(decision)
            won = await store.decide(
                Key(principal, identifier), "approved" if approved else "denied", stored_json(record)
            )
            if not won and (place == 0 or decision is not None):
                raise approval_not_pending_error("decided")


def approval_records(
    calls: Mapping[str, PendingCall],
    state: Mapping[str, Any] | None,
    turn: str,
    bound: Binding,
    now: float,
    *,
    request: Mapping[str, Any] | None = None,
) -> tuple[Approval, ...]:
    """The approvals of a turn, as stored records. `calls` are keyed by approval id.

    `request` is the request to the agent (see `settings_of`), if the decision alone must be able to resume the turn.
    """
    kept = stored_json({"state": state, "asked": list(calls)})
    return tuple(
        [
            Approval(
                id=identifier,
                created=now,
                expires=now + APPROVAL_LIFETIME,
                turn=turn,
                agent=bound.agent,
                call_id=call.call_id,
                conversation=bound.conversation,
                tool=call.name,
                arguments=call.arguments,
                digest=digest(call.name, call.arguments),
                state=kept,
                # In a separate column: `state` belongs to the agent, the request to the server.
                request=None if request is None else stored_json(request),
            )
            for identifier, call in calls.items()
        ]
    )


def digest(tool: str, arguments: str) -> str:
    """A hash of the tool and its arguments, exactly as shown to clients."""
    return hashlib.sha256(dumps([tool, arguments])).hexdigest()


def approval_not_pending_error(status: str) -> Conflict:
    """The error for an approval that is no longer pending, as its `status` says."""
    if status == "expired":
        return Conflict("The time to decide this is over.", code="approval_expired", should_retry=False)
    return Conflict("This was decided already.", code="approval_decided", should_retry=False)


def request_of(approval: Approval) -> Mapping[str, Any] | None:
    """The request with which the agent paused; None if it came over an API whose clients repeat it."""
    if approval.request is not None:
        stored: Mapping[str, Any] = from_stored_json(approval.request)
        return stored
    # Schema version 2 has no column for the request.
    older: Mapping[str, Any] | None = from_stored_json(approval.state).get("settings")
    return older


def settings_of(request: AgentRequest, instructions: Sequence[str]) -> Mapping[str, Any]:
    """The parts of a request that are not in its conversation, as JSON."""
    sampling = request.sampling
    return {
        "model": request.model,
        "instructions": list(instructions),
        "temperature": sampling.temperature,
        "maxTokens": sampling.max_tokens,
        "effort": sampling.reasoning_effort,
        "metadata": dict(request.metadata),
        "extra": dict(request.extra),
    }


class StoredGrants:
    """Stores the grants for one agent, since another agent may have a different tool of the same name."""

    def __init__(self, store: Store, agent: str) -> None:
        self._store = store
        self._agent = agent

    async def find(self, principal: str, tool: str) -> Sequence[str]:
        """The grants of a principal for a tool. Read each time, so that a revoked grant stops counting at once."""
        return [grant.body for grant in await self._store.grants(principal, (self._agent, tool))]

    async def add(self, principal: str, tool: str, grant: str) -> None:
        """Store another grant; an existing one is not stored twice."""
        digest = hashlib.sha256(f"{self._agent}\0{tool}\0{grant}".encode("utf-8", "surrogatepass")).hexdigest()
        await self._store.put_grant(principal, Grant(f"grant_{digest[:32]}", self._agent, tool, grant))


class GrantsByAgent(dict[str, StoredGrants]):
    """The grants of one store, for each agent that requests approvals: few names, set by the server itself."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    def __missing__(self, agent: str) -> StoredGrants:
        self[agent] = grants = StoredGrants(self._store, agent)
        return grants
