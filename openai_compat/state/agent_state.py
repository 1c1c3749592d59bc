"""Agent state left by a turn, for the turn that continues it.

The state is stored with the conversation, or else with the response. Results of client tool calls can be sent without
naming either. So without a conversation, the ids of these calls lead to the state: the server then creates the ids, and
each carries the id of a *pause*. All states that follow from one another share a *session*, which is needed as long as
one of them is reachable.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import anyio

from ..agent_request import AgentRequest, Resume
from ..backend import AgentBackend, Capabilities, SupportsForget
from ..errors import AgentError, Conflict, Unavailable
from ..events import AgentEvent, Finished, Paused, ToolCallDelta, ToolCallReady, ToolCallStarted
from ..messages import AssistantMessage, Message, ToolMessage, UserMessage
from ..stores.port import Store
from ..stores.records import AgentState, Key
from ..wire.json import from_stored_json, stored_json
from ..wire.serialize_messages import chat_message
from .approvals import APPROVAL_LIFETIME
from .conversation_locks import Draft
from .ids import new_id

logger = logging.getLogger("openai_compat")

PATIENCE = 5.0
"""Seconds for which a finished turn waits for the store, to release the state that it began with."""

MARK = re.compile(r"(.*)_st([0-9a-f]{24})", re.DOTALL)
"""A call id as clients know it: the agent's own id, and the id of the pause that it leads to."""


@dataclass(frozen=True, slots=True)
class InitialState:
    """The state that a turn begins with.

    Attributes:
        found: the stored state that the turn continues from, whichever agent left it.
        pause: the pause under which it was found, which can be used once.
    """

    found: AgentState | None = None
    pause: Key | None = None


NO_STATE = InitialState()


@dataclass(frozen=True, slots=True)
class FinalState:
    """The state that a turn ends with.

    Attributes:
        body: the state, as JSON.
        paused: True if calls wait for results or decisions.
        leads: True if the ids of all calls that wait for the client's results lead to the state.
    """

    body: str
    paused: bool
    leads: bool

    def is_reachable(self, kept: Sequence[AgentState]) -> bool:
        """False if it was stored for calls only, and their ids do not lead to it: no request can find it."""
        return self.leads or [state.of for state in kept] != ["pause"]


def pause_id(turn: str) -> str:
    """The id of the pause with which a turn ends."""
    return turn[-24:]


def state_for_agent(found: AgentState | None, agent: str) -> Mapping[str, Any] | None:
    """The state, if it belongs to this agent."""
    if found is None or found.agent != agent:
        return None
    state: Mapping[str, Any] = from_stored_json(found.body)
    return state


def final_state(event: Paused | Finished, most: int, request_id: str) -> FinalState | None:
    """The state that a turn ends with. Raises AgentError if it is longer than `most` bytes, or is not JSON.

    If all waiting calls wait for results, a longer state is dropped without an error: their client sends the conversation
    history with the results, and the agent starts from that.
    """
    try:
        body = stored_json(event.state)
    except TypeError:  # a nested mapping that is not a dict
        raise _invalid_state_error("is not JSON", event, request_id) from None
    pending = event.pending if isinstance(event, Paused) else ()
    waiting = [call.call_id for call in pending if call.waits_for == "result"]
    if len(body) > most and pending and len(waiting) == len(pending):
        text = "%s: the agent's state is lost: it has %d bytes, of %d that Limits.state allows"
        logger.warning(text, request_id, len(body), most)
        return None
    if len(body) > most:
        raise _invalid_state_error(f"has {len(body)} bytes, of {most} that Limits.state allows", event, request_id)
    return FinalState(body, bool(pending), all([MARK.fullmatch(call_id) for call_id in waiting]))


def _invalid_state_error(why: str, event: Paused | Finished, request_id: str) -> AgentError:
    text = "%s: the agent broke its contract (invalid_event): the field 'state' of %s %s"
    logger.error(text, request_id, type(event).__name__, why)
    return AgentError("The agent left a state that cannot be kept.", code="invalid_event")


def session_after(found: AgentState | None, agent: str) -> str:
    """The session of the state that the agent leaves after a turn that began with `found`."""
    return found.session if found is not None and found.agent == agent else new_id("")


class CallMarks:
    """Assigns ids that lead to the run's pause to the client's calls.

    If the agent does not declare `keeps_state`, its calls keep their own ids, as their need for others is known too late.
    Calls that it reports together with the state are the exception.
    """

    def __init__(self, turn: str, *, always: bool) -> None:
        self._pause = pause_id(turn)
        self._always = always
        self._ids: dict[str, str] = {}

    def mark(self, events: list[AgentEvent]) -> list[AgentEvent]:
        """Return the events with these ids."""
        last = events[-1] if events else None
        begun = {e.call_id for e in events if isinstance(e, ToolCallStarted) and e.executor == "client"}
        pending = last.pending if isinstance(last, Paused) else ()
        waiting = {call.call_id for call in pending if call.waits_for == "result"}
        if self._always or (isinstance(last, Paused) and last.state is not None and waiting <= begun):
            self._ids |= {call_id: f"{call_id}_st{self._pause}" for call_id in begun}
        return [self._with_marked_ids(event) for event in events] if self._ids else events

    def _with_marked_ids(self, event: AgentEvent) -> AgentEvent:
        if isinstance(event, ToolCallStarted | ToolCallDelta | ToolCallReady):
            return replace(event, call_id=self._ids.get(event.call_id, event.call_id))
        if isinstance(event, Paused):
            pending = [replace(call, call_id=self._ids.get(call.call_id, call.call_id)) for call in event.pending]
            return replace(event, pending=tuple(pending))
        return event


def states_to_store(
    left: FinalState,
    given: InitialState,
    agent: str,
    backend: AgentBackend,
    *,
    turn: str,
    draft: Draft | None,
    response: str | None,
) -> tuple[AgentState, ...]:
    """The states to store after a turn, under the name of its `agent`.

    The state is stored with the conversation; otherwise with the stored `response`, and under the pause that the ids of calls
    lead to. An unreachable state can be forgotten at once.
    """
    state = AgentState(
        of="pause",
        id=pause_id(turn),
        agent=agent,
        session=session_after(given.found, agent),
        body=left.body,
        version=backend.capabilities.state_version,
        paused=left.paused,
        expires=time.time() + APPROVAL_LIFETIME,
    )
    if draft is not None:
        conversation = draft.conversation
        kept = replace(state, of="conversation", id=conversation.id, turn=conversation.version + 1, expires=None)
        replaced = conversation.state
        return (kept,) if replaced is None or replaced.session == kept.session else (kept, replaced.gone())
    after = () if response is None else (replace(state, of="response", id=response, expires=None),)
    if left.paused and (left.leads or response is None):
        return (*after, state)
    return (state.gone(),) if response is None and isinstance(backend, SupportsForget) else after


async def use_pause(store: Store, pause: Key, seconds: float) -> None:
    """Reserve a state for up to `seconds` seconds before its agent runs. Raises Conflict if another request uses it."""
    if not await store.use_pause(pause, seconds):
        text = "These results were sent before, and the turn has gone on with them."
        raise Conflict(text, code="results_used", should_retry=False)


async def settle_pause(store: Store, pause: Key, request_id: str, *, done: bool) -> None:
    """Use up a state after a completed turn; otherwise release it, so that its results can be sent again.

    If the store does not answer, the results can be sent again as soon as the turn can no longer be running.
    """
    try:
        with anyio.CancelScope(shield=True), anyio.move_on_after(PATIENCE):
            await (store.end_pause(pause) if done else store.return_pause(pause))
    except Unavailable as error:
        logger.warning("%s: the store could not be told that the agent's state is used: %s", request_id, error.code)


def own_id(call_id: str) -> str:
    """The agent's own id of a call."""
    found = MARK.fullmatch(call_id)
    return call_id if found is None else found[1]


async def resume_state(
    store: Store, agent: str, can: Capabilities, request: AgentRequest, found: AgentState | None
) -> tuple[AgentRequest, InitialState]:
    """Add the state that the request continues from: `found`, or the state that its results lead to.

    Raises Conflict (409 `state_unreadable`) for results and decisions whose state has a version that the agent cannot read.
    """
    resume, given = request.resume, InitialState(found)
    marked = resume is not None and any([MARK.fullmatch(call_id) for call_id in resume.results])
    if found is None and resume is not None and marked and not resume.decisions:
        given = await _find_paused_state(store, request.principal.id, resume.results)
    state = state_for_agent(given.found, agent)
    if state is not None and given.found is not None and given.found.version != can.state_version:
        if resume is not None:
            text = "The agent has changed since it paused, and cannot read the state that it has left."
            raise Conflict(text, code="state_unreadable", should_retry=False)
        state = None  # the request has the conversation history, which the agent starts from
    if resume is not None and marked:
        request = _with_own_ids(request)
        results = {own_id(call_id): replace(m, call_id=own_id(call_id)) for call_id, m in resume.results.items()}
        resume = replace(resume, results=results)
    if resume is None:
        waits = state is not None and given.found is not None and given.found.paused
        waits = waits and isinstance(request.messages[-1], UserMessage)
        resume = Resume({}, state=state, superseded=True) if waits else None
    elif not resume.decisions:  # a decision carries the state of the turn that requested it
        resume = replace(resume, state=state, lost=marked and state is None)
    return replace(request, state=state, resume=resume), given


async def _find_paused_state(store: Store, principal: str, results: Mapping[str, ToolMessage]) -> InitialState:
    pauses = {mark[2] for call_id in results if (mark := MARK.fullmatch(call_id)) is not None}
    if len(pauses) != 1:  # no single turn of this server has paused for these
        return NO_STATE
    key = Key(principal, pauses.pop())
    found = await store.pause(key)
    return NO_STATE if found is None else InitialState(found, key)


def _with_own_ids(request: AgentRequest) -> AgentRequest:
    messages = tuple([_message_with_own_ids(message) for message in request.messages])
    raw = [
        sent if own is message else chat_message(own)
        for own, message, sent in zip(messages, request.messages, request.raw_messages, strict=True)
    ]
    return replace(request, messages=messages, raw_messages=raw)


def _message_with_own_ids(message: Message) -> Message:
    if isinstance(message, ToolMessage) and MARK.fullmatch(message.call_id):
        return replace(message, call_id=own_id(message.call_id))
    if isinstance(message, AssistantMessage) and any([MARK.fullmatch(call.call_id) for call in message.tool_calls]):
        calls = tuple([replace(call, call_id=own_id(call.call_id)) for call in message.tool_calls])
        return replace(message, tool_calls=calls)
    return message
