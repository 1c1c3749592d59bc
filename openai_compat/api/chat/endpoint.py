"""`POST /v1/chat/completions`, from the body to the turn that answers it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from ...aio.off_loop import off_loop
from ...backend import AgentBackend, AgentRequest
from ...errors import InvalidRequest, RateLimited
from ...policies.content import check_content_type
from ...state.approvals import Binding
from ...state.draft import Draft
from ...state.ids import new_id
from ...stores.port import StoredCompletion
from ...wire.chat.call_order import CallOrder
from ...wire.chat.parse import ParsedChat, check_capabilities, parse_chat
from ...wire.chat.serialize import ChatForm, ChatStream, completion, stream_end
from ...wire.conversation_rules import check_conversation
from ...wire.presentation import Presentation, Visibility
from ..attachments import attach, message_places
from ..body import parse_body, read_body
from ..detach import run_once
from ..exchange import Exchange
from ..own_tools import check_names
from ..services import Services, now
from ..stream_recovery import recover_stream, recoverable_stream
from ..text_approvals import ApprovalPrompts, decisions_from_messages, has_approval_tool
from .turn import AnswerFormat, ChoicesSpec, ChoicesTurn, answer_with_text


async def create(services: Services, exchange: Exchange) -> None:
    """Run an agent and answer with a chat completion, streamed or plain; or go on with a stream that was lost."""
    check_content_type(exchange.request)
    last_event = exchange.request.header(b"last-event-id")
    if last_event is not None:
        await recover_stream(services, exchange, last_event)
        return
    body = await read_body(exchange, services.settings.limits, services.settings.deadlines)
    caller = services.settings.caller(exchange.principal, exchange.request)
    parsed = await parse_body(body, parse_chat, body, caller)
    request = parsed.request
    identity = ChatForm(new_id("chatcmpl-"), now(), request.model, parsed.custom_tools, parsed.include_usage)
    form = _form(identity, parsed)
    # Chat programs ask for titles and tags beside every message: these take no slot and run no agent.
    chore = (
        await services.settings.housekeeping.answer(exchange.request, parsed.request)
        if services.settings.housekeeping
        else None
    )
    if chore is not None:
        exchange.note = "housekeeping"
        await answer_with_text(exchange, form, chore, stream=parsed.request.stream)
        return
    await run_once(services, exchange, body, lambda: _run(services, exchange, parsed, identity, form))


async def _run(
    services: Services, exchange: Exchange, parsed: ParsedChat, identity: ChatForm, form: AnswerFormat
) -> None:
    await services.check_rate(exchange)
    if form.keep is not None:
        await services.state.check_available()
    agent, backend = services.models.agent(parsed.request.model, exchange.principal)
    async with AsyncExitStack() as stack:
        draft = await _draft(services, exchange, parsed)
        request = parsed.request
        if draft is not None:
            request = (await stack.enter_async_context(draft)).request
        else:
            check_conversation(request.messages)
        check_capabilities(parsed, backend.capabilities)
        if parsed.wire.tools:
            places = parsed.tool_places
            await check_names(backend, request, places.keys(), places.__getitem__)
        long = parsed.long or (draft is not None and draft.long)
        request = await off_loop(services.settings.messages.apply, request, long=long)
        request = await attach(services, request, backend.capabilities, lambda: message_places(parsed.request.messages))
        spec = await _spec(services, request, AnsweringAgent(identity.id, agent, backend, parsed.choices, draft))
        try:
            log = None
            if request.stream and services.settings.disconnect.then != "cancel":
                log = await stack.enter_async_context(recoverable_stream(services, exchange, identity.id, draft))
            await services.live.runner.run(ChoicesTurn(services, exchange, spec, form, log))
        except RateLimited:
            if services.settings.busy is None or exchange.agent_started:
                raise
            exchange.note = "busy"
            await stack.aclose()
            await answer_with_text(exchange, form, await services.settings.busy_text(request), stream=request.stream)


@dataclass(frozen=True, slots=True)
class AnsweringAgent:
    """Who answers a request, under which id, how often, in which conversation."""

    id: str
    agent: str
    backend: AgentBackend
    choices: int
    draft: Draft | None


async def _spec(services: Services, request: AgentRequest, served: AnsweringAgent) -> ChoicesSpec:
    """Who answers, with what the request decides about an earlier turn's questions, and with those that it may ask."""
    answers = None
    if served.choices == 1:
        request, answers = await decisions_from_messages(services.state.store, served.agent, request)
    asks = ApprovalPrompts(by_tool=has_approval_tool(request))
    bound = Binding(request.principal.id, served.agent, request.conversation_id)
    # Calls are put in order, since SDKs read one's arguments as JSON as soon as a piece of another one comes.
    most = services.settings.limits.answer if request.tools else None  # without tools there are no calls to be ordered

    def view(visibility: Visibility) -> Presentation:
        return Presentation(visibility, ask=asks.ask, call_order=None if most is None else CallOrder(most))

    return ChoicesSpec(
        id=served.id,
        agent=served.agent,
        backend=served.backend,
        requests=[request] * served.choices,
        view=lambda: view(services.settings.visibility),
        said_view=lambda: view("hidden"),
        draft=served.draft,
        answers=answers,
        questions=lambda: asks.kept(served.id, bound),
    )


async def _draft(services: Services, exchange: Exchange, parsed: ParsedChat) -> Draft | None:
    conversations = services.settings.conversations
    if conversations is None:
        return None
    identifier = conversations.identify(exchange.request, parsed.body)
    if identifier is not None and parsed.choices > 1:
        raise InvalidRequest("A conversation takes one answer at a time.", param="n", code="invalid_value")
    if parsed.choices > 1:
        return None
    draft = await services.state.locks.open(exchange.principal.id, identifier, parsed.request, long=parsed.long)
    if draft is not None:
        # Headers are encoded as latin-1, the id may be any text: it goes out as UTF-8.
        exchange.about.append(("X-Conversation-Id", draft.key.id.encode().decode("latin-1")))
    return draft


def _form(chat: ChatForm, parsed: ParsedChat) -> AnswerFormat:
    return AnswerFormat(
        stream=lambda index: ChatStream(chat, index),
        stream_end=lambda usage: stream_end(chat, usage),
        whole=lambda messages: completion(chat, messages),
        keep=(lambda answer: _stored(chat, parsed.request, answer)) if parsed.wire.store else None,
    )


def _stored(chat: ChatForm, request: AgentRequest, answer: bytes) -> StoredCompletion:
    """An answer that was asked for with `store: true`."""
    messages: list[dict[str, Any]] = request.raw_messages
    return StoredCompletion(
        id=chat.id,
        created=chat.created,
        model=chat.model,
        metadata=dict(request.metadata),
        body=answer.decode(),
        messages=to_json(messages, inf_nan_mode="null").decode(),
    )
