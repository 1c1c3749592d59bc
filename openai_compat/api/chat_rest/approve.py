"""`GET /approvals` and `POST /tools/approve`: a call is decided once, and its turn goes on once."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import anyio

from ...agent_request import AgentRequest, Decision, Sampling
from ...aio.background import spawn
from ...errors import NotFound, OpenAICompatError
from ...policies.disconnect import Disconnect
from ...state.agent_state import resume_state
from ...state.approvals import (
    Decisions,
    approval_elsewhere_error,
    approval_not_pending_error,
    check_editable,
    request_of,
)
from ...state.conversation_locks import Draft
from ...state.ids import new_id
from ...stores.port import Store
from ...stores.records import Approval, Key
from ...wire.chat_rest.forms import DeltaForm, FinishedTurn, TurnForm, WholeForm
from ...wire.chat_rest.serialize import TurnRecord
from ...wire.chat_rest.serialize_agentic import AgenticForm
from ...wire.chat_rest.types import ApproveAnswer, ApproveRequest
from ...wire.errors import error_frame
from ...wire.json import dumps, from_stored_json
from ..detach import run_once
from ..exchange import Exchange
from ..follow import CHAT_PREFIX
from ..services import Models, Services, logger
from ..stream_recovery import recover_stream
from .lookup import pending_approval, unknown_conversation
from .messages import agentic_failure, session_of
from .prepare import ResolvedModel, resolve_model, with_instructions
from .request import query, read_request, run_and_answer, stream_errors_as
from .run import PreparedTurn, RestTurn

FINISH = Disconnect("finish")
"""A decision is used once, so the turn runs to its end even if the client disconnects."""


async def list_pending(services: Services, exchange: Exchange) -> None:
    """The calls that wait for a decision, in one conversation or in all."""
    conversation = query(exchange).get("conversationId")
    found = await services.state.store.approvals(exchange.principal.id, conversation)
    shown = [pending_approval(approval, services.models.agents.values()) for approval in found]
    await exchange.answer(200, dumps({"approvals": shown}))


async def approve(services: Services, exchange: Exchange) -> None:
    """Decide about a call. Raises NotFound, and Conflict if the call was decided already or the decision is too late."""
    last_event = exchange.request.header(b"last-event-id")
    if last_event is not None:
        await recover_stream(services, exchange, last_event)
        return
    asked, body = await read_request(services.settings, exchange, ApproveRequest)
    await run_once(services, exchange, body, lambda: _approve(services, exchange, asked), FINISH)


async def _approve(services: Services, exchange: Exchange, asked: ApproveRequest) -> None:
    if services.live.rates is not None:
        await services.check_rate(exchange)
    found = await _find_approval(services.state.store, exchange.principal.id, asked)
    if found.status != "pending":
        raise approval_not_pending_error(found.status)
    answers = Decisions({found.id: _to_decision(asked)}, {found.id: found})
    if asked.background:
        await _run_in_background(
            exchange,
            asked,
            lambda begun: _resume_turn(services, exchange, asked, found=found, answers=answers, begun=begun),
        )
    else:
        await _resume_turn(services, exchange, asked, found=found, answers=answers, begun=None)


async def _find_approval(store: Store, principal: str, asked: ApproveRequest) -> Approval:
    found = await store.approval(Key(principal, asked.approval_id))
    # A question can only be decided in the conversation where it was asked; elsewhere its id is unknown.
    if found is None or found.conversation != asked.conversation_id:
        raise NotFound("No approval of this conversation has this id.", code="approval_not_found", param="approvalId")
    return found


def _to_decision(asked: ApproveRequest) -> Decision:
    arguments = asked.arguments
    return Decision(
        approved=asked.decision != "deny",
        reason=asked.reason,
        arguments=arguments if arguments is None or isinstance(arguments, str) else dumps(arguments).decode(),
        always=asked.decision == "allow-always",
        pattern=asked.pattern,
    )


async def _resume_turn(
    services: Services,
    exchange: Exchange,
    asked: ApproveRequest,
    *,
    found: Approval,
    answers: Decisions,
    begun: StartedSignal | None,
) -> None:
    """Resume the turn that asked: in the background if `begun` is given, otherwise as the answer to the client."""
    key = Key(exchange.principal.id, asked.conversation_id)
    settings = await _load_settings(services.state.store, services.models, key, found)
    # The name may stand for another agent by now, which must not get the first agent's state.
    who = resolve_model(services.models, exchange.principal, settings["model"])
    if who.agent != found.agent:
        raise approval_elsewhere_error("The agent that has asked this is not served under its name any more.")
    check_editable(answers, who.backend.capabilities, "arguments")
    # In the format of the turn that asked: its client can read these frames.
    agentic = asked.stream is True and settings.get("extra", {}).get("report_steps") is True
    failed = agentic_failure if agentic else error_frame
    async with stream_errors_as(exchange, failed), await services.state.locks.lock(key, unknown_conversation) as draft:
        work = await _prepare_resumed_turn(services, exchange, draft, who, settings=settings, answers=answers)
        form = _turn_form(services.models, asked, found, work, agentic=agentic)
        if begun is not None:
            await services.live.runner.run(RestTurn(services.state.store, exchange, work, form, begun))
        else:
            await run_and_answer(services, exchange, work, form, stream=asked.stream is True, failed=failed)


def _turn_form(
    models: Models, asked: ApproveRequest, found: Approval, work: PreparedTurn, *, agentic: bool
) -> TurnForm:
    answer = partial(_approve_answer, asked, found)
    if not asked.stream:
        return WholeForm(answer)
    return AgenticForm(session_of(models, work, "", None)) if agentic else DeltaForm(answer)


def _approve_answer(asked: ApproveRequest, found: Approval, turned: FinishedTurn) -> ApproveAnswer:
    call = turned.record.calls.get(found.call_id)
    return {
        "success": True,
        "decision": asked.decision,
        "resumed": True,
        "result": None if call is None else call.get("result"),
        "assistantMessage": turned.assistant,
        "toolCalls": list(turned.record.calls.values()),
        "pendingApprovals": turned.approvals,
        "finishReason": turned.record.finish_reason,
        "usage": turned.usage,
    }


async def _prepare_resumed_turn(
    services: Services,
    exchange: Exchange,
    draft: Draft,
    who: ResolvedModel,
    *,
    settings: Mapping[str, Any],
    answers: Decisions,
) -> PreparedTurn:
    """The turn as it was first requested, with the decisions."""
    caller = services.settings.caller(exchange.principal, exchange.request)
    sampling = Sampling(
        settings.get("temperature"), max_tokens=settings.get("maxTokens"), reasoning_effort=settings.get("effort")
    )
    request = AgentRequest(
        model=who.model,
        messages=(),
        raw_messages=[],
        sampling=sampling,
        principal=caller.principal,
        headers=caller.headers,
        metadata=settings.get("metadata", {}),
        extra=settings.get("extra", {}),
        resume=answers.to_resume(None),
    )
    draft.resume_request(request)
    store, found = services.state.store, draft.conversation.latest_state
    request, given = await resume_state(store, who.agent, who.backend.capabilities, draft.request, found)
    return PreparedTurn(
        id=new_id(CHAT_PREFIX),
        agent=who.agent,
        provider=who.provider,
        backend=who.backend,
        request=with_instructions(services.settings.messages.apply(request), settings.get("instructions", ())),
        draft=draft,
        record=TurnRecord(new_id),
        user_items=(),
        user=None,
        settings=settings,
        answers=answers,
        given=given,
    )


async def _load_settings(store: Store, models: Models, key: Key, found: Approval) -> Mapping[str, Any]:
    """The settings of the paused turn. Raises Conflict if they cannot be found."""
    kept = request_of(found)
    if kept is not None and kept.get("workflow") is None:
        return kept
    # A question of the Responses API stores no settings, but its response names the model.
    response = await store.response(Key(key.principal, found.turn))
    model = None if response is None else from_stored_json(response.body).get("model")
    # A chat completion that was not stored names no model, but the only agent must have asked.
    if model is None and kept is None and len(models.agents) == 1:
        model = next(iter(models.agents))
    if model is None:  # or it was a workflow, which only the WebSocket runs
        raise approval_elsewhere_error("This was asked over another API, and has to be decided there.")
    return {"model": model}


class StartedSignal:
    """The delivery of a turn in the background. `begun` is set once the turn runs, or has failed to start."""

    due = math.inf

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.error: Exception | None = None

    def started(self) -> None:
        """The agent is about to run: the decision counts."""
        self.begun.set()

    def write_now(self, frames: bytes) -> bool:
        """Drop the frames, as `write` does: there is always room for that."""
        return True

    async def write(self, frames: bytes) -> None:
        """Drop the frames: the client has its 202, and reads the conversation later."""

    async def flush(self) -> None:
        """Nothing: there is no log to copy."""

    async def keep_alive(self) -> None:
        """Nothing: there is no connection to keep open."""

    async def end(self, frames: bytes) -> None:
        """Nothing: the conversation has the answer."""


async def _run_in_background(
    exchange: Exchange, asked: ApproveRequest, go_on: Callable[[StartedSignal], Awaitable[None]]
) -> None:
    """Answer once the decision counts; the turn goes on in the background. Raises errors that happen before."""
    signal = StartedSignal()

    async def run() -> None:
        try:
            await go_on(signal)
        except Exception as error:
            # The client has its 202 already, so the error can only be logged.
            if signal.begun.is_set():
                logger.warning("%s: a turn in the background has failed", exchange.request_id, exc_info=error)
            signal.error = error
        finally:
            signal.begun.set()

    spawn(run, f"turn after {asked.approval_id}", lambda: None)
    await signal.begun.wait()
    if isinstance(signal.error, OpenAICompatError):
        raise signal.error
    # Uses up an idempotency key: the decision counts.
    exchange.agent_started = True
    answer: ApproveAnswer = {"success": True, "decision": asked.decision, "resumed": True, "pendingApprovals": []}
    await exchange.answer(202, dumps(answer))
