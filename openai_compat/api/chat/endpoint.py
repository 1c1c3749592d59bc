"""`POST /v1/chat/completions`, from the body to the turn that answers it."""

from __future__ import annotations

from ...agent_request import AgentRequest
from ...aio.off_loop import MANY, off_loop
from ...backend import AgentBackend
from ...errors import InvalidRequest
from ...state.agent_state import NO_STATE, resume_state
from ...state.draft import Draft
from ...state.event_log import EventLogWriter
from ...state.ids import new_id
from ...turns.slots import NoSlot
from ...wire.body import QUICK_BYTES, decode_object, is_quick
from ...wire.chat.parse import ParsedChat, check_capabilities, parse_chat_object, parse_plain_chat
from ...wire.chat.serialize import ChatForm
from ...wire.conversation_rules import check_conversation
from ..attachments import attach, message_places
from ..body import read_body
from ..detach import run_once
from ..exchange import Exchange
from ..own_tools import check_names
from ..services import Services, now
from ..stream_recovery import recover_stream, recoverable_stream
from ..text_approvals import decisions_from_messages, may_decide
from .turn import ChatCompletionTurn, answer_with_text


async def create(services: Services, exchange: Exchange) -> None:
    """Run an agent and answer with a chat completion, streamed or plain; or go on with a stream that was lost."""
    last_event = exchange.request.header(b"last-event-id")
    if last_event is not None:
        await recover_stream(services, exchange, last_event)
        return
    body = await read_body(exchange, services.settings.limits, services.settings.deadlines)
    caller, long = services.settings.caller(exchange.principal, exchange.request), len(body) > QUICK_BYTES
    raw = await off_loop(decode_object, body) if long else decode_object(body)
    parsed = parse_plain_chat(raw, caller)
    if parsed is None:
        long = not is_quick(body)
        parsed = await off_loop(parse_chat_object, raw, caller, long=long)
    elif len(parsed.request.raw_messages) > MANY:
        long = True  # they were told quickly to be plain, but a conversation or a policy looks at each of them
    request, housekeeping = parsed.request, services.settings.housekeeping
    form = ChatForm(new_id("chatcmpl-"), now(), request.model, parsed.custom_tools, parsed.include_usage)
    # Chat programs ask for titles and tags beside every message: these take no slot and run no agent.
    chore = None if housekeeping is None else await housekeeping.answer(exchange.request, request)
    if chore is not None:
        exchange.note = "housekeeping"
        await answer_with_text(exchange, form, chore, stream=request.stream)
        return
    answering = run_once(services, exchange, body, lambda: _answer(services, exchange, parsed, form, long=long))
    del body, caller  # or they would be kept for as long as a stream lasts
    await answering


async def _answer(services: Services, exchange: Exchange, parsed: ParsedChat, form: ChatForm, *, long: bool) -> None:
    if services.live.rates is not None:
        await services.check_rate(exchange)
    if parsed.store:
        # Before the agent starts: SDKs repeat a 503, which is right as long as nothing has run.
        await services.state.check_available()
    served = services.models.agent(parsed.request.model, exchange.principal)
    draft = None if services.settings.conversations is None else await _draft(services, exchange, parsed, long=long)
    if draft is None:
        busy = await _run(services, exchange, parsed, form, served, draft=None, long=long)
    else:
        async with draft:
            busy = await _run(services, exchange, parsed, form, served, draft=draft, long=long or draft.long)
    if busy is not None:  # the conversation is free before its client hears of it
        exchange.note, exchange.refused = "busy", "slots"
        await answer_with_text(exchange, form, await services.settings.busy_text(busy), stream=busy.stream)


async def _run(
    services: Services,
    exchange: Exchange,
    parsed: ParsedChat,
    form: ChatForm,
    served: tuple[str, AgentBackend],
    *,
    draft: Draft | None,
    long: bool,
) -> AgentRequest | None:
    """Run the turn. Returns its request if there is no slot, and something else than a 429 is to be said about that."""
    request = await _checked(services, parsed, served[1], draft, long=long)
    answers = None
    if parsed.choices == 1 and may_decide(request):
        agent, can = served[0], served[1].capabilities
        request, answers = await decisions_from_messages(services.state.store, agent, can, request)
    given = NO_STATE
    if draft is not None or request.resume is not None:
        found = None if draft is None else draft.conversation.latest_state
        request, given = await resume_state(services.state.store, served[0], served[1].capabilities, request, found)

    def turn(log: EventLogWriter | None) -> ChatCompletionTurn:
        requests = [request] * parsed.choices
        turn = ChatCompletionTurn(
            services, exchange, form, served, requests, store=parsed.store, answers=answers, draft=draft, log=log
        )
        turn.given = given
        return turn

    try:
        if request.stream and services.settings.disconnect.then != "cancel":
            async with recoverable_stream(services, exchange, form.id, draft) as log:
                await services.live.runner.run(turn(log))
        else:
            await services.live.runner.run(turn(None))
    except NoSlot:
        if services.settings.busy is None or exchange.agent_started:
            raise
        return request
    return None


async def _draft(services: Services, exchange: Exchange, parsed: ParsedChat, *, long: bool) -> Draft | None:
    conversations = services.settings.conversations
    identifier = None if conversations is None else conversations.identify(exchange.request, parsed.body)
    if identifier is not None and parsed.choices > 1:
        raise InvalidRequest("A conversation takes one answer at a time.", param="n", code="invalid_value")
    if parsed.choices > 1:
        return None
    draft = await services.state.locks.open(exchange.principal.id, identifier, parsed.request, long=long)
    if draft is not None:
        # Headers are encoded as latin-1, the id may be any text: it goes out as UTF-8.
        exchange.about.append(("X-Conversation-Id", draft.key.id.encode().decode("latin-1")))
    return draft


async def _checked(
    services: Services, parsed: ParsedChat, backend: AgentBackend, draft: Draft | None, *, long: bool
) -> AgentRequest:
    """The request as its agent gets it. Raises InvalidRequest if it cannot take it."""
    request = parsed.request if draft is None else draft.request
    if draft is None and not request.plain:
        check_conversation(request.messages)
    check_capabilities(parsed.request, backend.capabilities)
    if parsed.tool_places:
        await check_names(backend, request, parsed.tool_places.keys(), parsed.tool_places.__getitem__)
    policy = services.settings.messages
    request = await off_loop(policy.apply, request) if long else policy.apply(request)
    if request.plain:
        return request
    return await attach(services, request, backend.capabilities, lambda: message_places(parsed.request.messages))
