"""Resolves a chat REST request: agent, provider, instructions, history."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ...agent_request import AgentRequest, Principal
from ...aio.off_loop import MANY, run_off_loop
from ...backend import AgentBackend, Capabilities
from ...errors import InvalidRequest, NotFound
from ...messages import Message as TypedMessage
from ...messages import SystemMessage
from ...policies.chat_rest import ContextQuery
from ...policies.messages import MessagePolicy
from ...state.agent_state import NO_STATE, resume_state
from ...state.approvals import Binding, load_superseded_approvals, settings_of
from ...state.conversation_locks import Draft
from ...state.ids import new_id
from ...wire.chat_rest.parse import LABELS, agent_request
from ...wire.chat_rest.serialize import TurnRecord, iso_time, messages_of
from ...wire.chat_rest.types import ToolMessageRequest, TurnRequest
from ...wire.conversation_rules import check_conversation
from ...wire.serialize_messages import chat_message
from ..exchange import Exchange
from ..follow import CHAT_PREFIX
from ..services import Models, Services, Settings, now
from .run import PreparedTurn


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """The agent that answers. `model` is its name for the client."""

    model: str
    agent: str
    backend: AgentBackend
    provider: str


def resolve_model(
    models: Models, principal: Principal, model: str | None, provider: str | None = None
) -> ResolvedModel:
    """The agent for a request; the principal's default if the request names none. Raises NotFound."""
    # Refused even if the model would be found: another provider's model would answer in its name.
    if provider is not None and provider not in models.provider_names():
        raise NotFound("No provider has this name.", code="provider_not_found", param="provider")
    if model is None:
        model = models.default_model(principal, provider)
        if model is None:
            raise NotFound(
                "No agent can be used here.", code="model_not_found", param="provider" if provider else "model"
            )
    elif provider is not None and f"{provider}/{model}" in models.agents:
        model = f"{provider}/{model}"
    agent, backend = models.agent(agent_for(models, principal, model) or model, principal)
    return ResolvedModel(model, agent, backend, models.provider_of(agent))


def agent_for(models: Models, principal: Principal, model: str) -> str | None:
    """The agent for a name or an alias: the one named like the alias's target, or the first with that model."""
    if model in models.agents:
        return model
    target = None if models.providers is None else models.providers.aliases.get(model)
    if target is None:
        return None
    named = [target, *[name for name, agent in models.agents.items() if agent.capabilities.upstream == target]]
    return next((name for name in named if name in models.agents and principal.may_use(name)), None)


async def prepare_turn(
    services: Services, exchange: Exchange, asked: TurnRequest, said: tuple[TypedMessage, ...], draft: Draft | None
) -> PreparedTurn:
    """The turn for a request. Raises OpenAICompatError if the request is invalid."""
    caller = services.settings.caller(exchange.principal, exchange.request)
    who = resolve_model(services.models, caller.principal, asked.model, asked.provider)
    _check_enforced(asked, who.backend.capabilities)
    request = agent_request(asked, said, who.model, caller)
    new, answers = said, None
    if draft is not None:
        kept = draft.conversation.metadata
        # The conversation's labels apply to its turns, unless the request sets its own.
        labels = {name: kept[name] for name in LABELS if name in kept}
        request = replace(request, metadata={**labels, **request.metadata})
        # Reading a long history would block other requests for too long.
        draft.long = len(draft.conversation.items) > MANY
        await run_off_loop(draft.append_request, request, long=draft.long)
        request, new = draft.request, draft.new_messages
        # A new message instead of a decision denies the pending calls of this agent.
        answers = await load_superseded_approvals(
            services.state.store, Binding(caller.principal.id, who.agent, draft.key.id)
        )
    else:
        check_conversation(request.messages)
    if answers is not None:
        request = replace(request, resume=answers.to_resume(request.resume))
    given = NO_STATE
    if draft is not None:
        found = draft.conversation.latest_state
        request, given = await resume_state(services.state.store, who.agent, who.backend.capabilities, request, found)
    instructions = [
        *_system_prompt(services.settings.messages, asked),
        *await _context_instructions(services.settings, request),
    ]
    long = draft is not None and draft.long
    request = with_instructions(await run_off_loop(services.settings.messages.apply, request, long=long), instructions)
    record, time = TurnRecord(new_id), iso_time(now())
    items = record.user_items(new, {"createdAt": time})
    shown = messages_of("" if draft is None else draft.key.id, items, time)
    return PreparedTurn(
        id=new_id(CHAT_PREFIX),
        agent=who.agent,
        provider=who.provider,
        backend=who.backend,
        request=request,
        draft=draft,
        record=record,
        user_items=items,
        user=next((message for message in reversed(shown) if message["role"] == "user"), None),
        settings=settings_of(request, instructions),
        answers=answers,
        given=given,
    )


def _check_enforced(asked: TurnRequest, can: Capabilities) -> None:
    """Raise InvalidRequest for a restriction of the agent's tools that the agent does not enforce."""
    off = isinstance(asked, ToolMessageRequest) and asked.enable_tools is False
    param = "enableTools" if off else "securityMode" if asked.security_mode is not None else None
    # Never ignored silently: a client that sends "deny" relies on no tool being run.
    if param is not None and not can.security_modes:
        text = f"This agent cannot enforce '{param}': nothing bounds the tools that it runs itself."
        raise InvalidRequest(text, param=param, code="unsupported_parameter")


def _system_prompt(policy: MessagePolicy, asked: TurnRequest) -> list[str]:
    """The client's own instructions, if the message policy allows any."""
    if not asked.system_prompt or policy.system == "ignore":
        return []
    if policy.system == "reject":
        text = "This server does not take instructions from clients."
        raise InvalidRequest(text, param="systemPrompt", code="unsupported_value")
    return [asked.system_prompt]


async def _context_instructions(settings: Settings, request: AgentRequest) -> list[str]:
    """The instructions that the operator's context hook returns for the ids in the request or its conversation."""
    hook = None if settings.chat_rest is None else settings.chat_rest.context
    ids = request.metadata
    if hook is None or not ids:
        return []
    query = ContextQuery(
        principal=request.principal,
        preset_id=ids.get("presetId"),
        task_id=ids.get("taskId"),
        ticket_id=ids.get("ticketId"),
        project_id=ids.get("projectId"),
        conversation_id=request.conversation_id,
    )
    made = hook(query)
    text = await made if inspect.isawaitable(made) else made
    return [text] if text else []


def with_instructions(request: AgentRequest, instructions: Iterable[str]) -> AgentRequest:
    """Put instructions before all messages of a request."""
    system = [SystemMessage(text) for text in instructions]
    if not system:
        return request
    raw = [chat_message(message) for message in system]
    return replace(request, messages=(*system, *request.messages), raw_messages=[*raw, *request.raw_messages])
