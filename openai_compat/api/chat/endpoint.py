"""`POST /v1/chat/completions`, from the body to the turn that answers it."""

from __future__ import annotations

from dataclasses import dataclass

from ...agent_request import AgentRequest
from ...aio.off_loop import MANY, off_loop
from ...backend import AgentBackend
from ...errors import InvalidRequest
from ...policies.housekeeping import task_of
from ...state.agent_state import NO_STATE, GivenState, resume_state
from ...state.approvals import Decisions
from ...state.conversation_locks import Draft
from ...state.event_log import EventLogWriter
from ...state.ids import new_id
from ...turns.slots import NoSlot
from ...wire.chat.parse import ParsedChat, check_capabilities, parse_chat_object, parse_plain_chat
from ...wire.chat.serialize import ChatForm
from ...wire.conversation_rules import check_conversation
from ...wire.json import QUICK_BYTES, decode_object, is_quick
from ..attachments import attach, message_places
from ..body import read_body
from ..detach import run_once
from ..exchange import Exchange
from ..services import Services, check_names, now
from ..stream_recovery import recover_stream, recoverable_stream
from ..text_approvals import decisions_from_messages, may_decide
from .turn import ChatCompletionTurn, answer_with_text


async def create(services: Services, exchange: Exchange) -> None:
    """Run an agent and answer with a chat completion, streamed or plain; or go on with a stream that was lost."""
    last_event = exchange.request.first.get(b"last-event-id")
    if last_event is not None:
        await recover_stream(services, exchange, last_event.decode("latin-1"))
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
    # Chat programs ask for titles and tags beside every message: these take no slot and run no agent.
    task = None if housekeeping is None else task_of(exchange.request, request)
    form = ChatForm(new_id("chatcmpl-"), now(), request.model, parsed.custom_tools, parsed.include_usage)
    if housekeeping is not None and task is not None:
        exchange.note = "housekeeping"
        await answer_with_text(exchange, form, await housekeeping.answer(task, request), stream=request.stream)
        return
    answering = _ChatAnswering(services, exchange, parsed, form, long)
    work = run_once(services, exchange, body, answering.answer) if services.guards(exchange) else answering.answer()
    del body, caller  # or they would be kept for as long as a stream lasts
    await work


@dataclass(slots=True)
class _ChatAnswering:
    """One request while it is answered. `long` says that its messages take long to be gone through."""

    services: Services
    exchange: Exchange
    parsed: ParsedChat
    form: ChatForm
    long: bool

    async def answer(self) -> None:
        """Run the turn in its conversation, if it has one."""
        services, exchange, parsed = self.services, self.exchange, self.parsed
        if services.live.rates is not None:
            await services.check_rate(exchange)
        if parsed.store:
            # Before the agent starts: SDKs repeat a 503, which is right as long as nothing has run.
            await services.state.check_available()
        served = services.models.agent(parsed.request.model, exchange.principal)
        draft = None if services.settings.conversations is None else await self._draft()
        if draft is None:
            busy = await self._run(served, None)
        else:
            self.long = self.long or draft.long
            async with draft:
                busy = await self._run(served, draft)
        if busy is not None:  # the conversation is free before its client hears of it
            exchange.note, exchange.refused = "busy", "slots"
            await answer_with_text(exchange, self.form, await services.settings.busy_text(busy), stream=busy.stream)

    async def _run(self, served: tuple[str, AgentBackend], draft: Draft | None) -> AgentRequest | None:
        """Run the turn. Returns its request if there is no slot, and something else than a 429 is to be said about that."""
        services, exchange, parsed, (agent, backend) = self.services, self.exchange, self.parsed, served
        store, can, policy = services.state.store, backend.capabilities, services.settings.messages
        request = parsed.request if draft is None else draft.request
        if draft is None and not request.plain:
            check_conversation(request.messages)
        check_capabilities(parsed.request, can)
        if parsed.tool_places:
            await check_names(backend, request, parsed.tool_places.keys(), parsed.tool_places.__getitem__)
        request = await off_loop(policy.apply, request) if self.long else policy.apply(request)
        if not request.plain:
            request = await attach(services, request, can, lambda: message_places(parsed.request.messages))
        answers, given = None, NO_STATE
        if parsed.choices == 1 and len(request.raw_messages) > 1 and may_decide(request):
            request, answers = await decisions_from_messages(store, agent, can, request)
        if draft is not None or request.resume is not None:
            found = None if draft is None else draft.conversation.latest_state
            request, given = await resume_state(store, agent, can, request, found)
        try:
            if request.stream and services.settings.disconnect.then != "cancel":
                async with recoverable_stream(services, exchange, self.form.id, draft) as log:
                    turn = self._turn(served, request, answers=answers, given=given, draft=draft, log=log)
                    await services.live.runner.run(turn)
            else:
                turn = self._turn(served, request, answers=answers, given=given, draft=draft)
                await services.live.runner.run(turn)
        except NoSlot:
            if services.settings.busy is None or exchange.agent_started:
                raise
            return request
        return None

    def _turn(
        self,
        served: tuple[str, AgentBackend],
        request: AgentRequest,
        *,
        answers: Decisions | None,
        given: GivenState,
        draft: Draft | None,
        log: EventLogWriter | None = None,
    ) -> ChatCompletionTurn:
        services, exchange, parsed = self.services, self.exchange, self.parsed
        requests, store = [request] * parsed.choices, parsed.store
        turn = ChatCompletionTurn(
            services, exchange, self.form, served, requests, store=store, answers=answers, draft=draft, log=log
        )
        turn.given = given
        return turn

    async def _draft(self) -> Draft | None:
        services, exchange, parsed = self.services, self.exchange, self.parsed
        conversations = services.settings.conversations
        identifier = None if conversations is None else conversations.identify(exchange.request, parsed.body)
        if identifier is not None and parsed.choices > 1:
            raise InvalidRequest("A conversation takes one answer at a time.", param="n", code="invalid_value")
        if parsed.choices > 1:
            return None
        draft = await services.state.locks.open(exchange.principal.id, identifier, parsed.request, long=self.long)
        if draft is not None:
            # Headers are encoded as latin-1, the id may be any text: it goes out as UTF-8.
            exchange.about.append(("X-Conversation-Id", draft.key.id.encode().decode("latin-1")))
        return draft
