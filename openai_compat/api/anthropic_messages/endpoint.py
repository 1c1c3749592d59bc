"""`POST /v1/messages`, from the request body to the turn that answers it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import parse_qs

from ...agent_request import AgentRequest
from ...aio.off_loop import MANY, run_off_loop
from ...backend import AgentBackend
from ...errors import OpenAICompatError
from ...events import Finished
from ...http import HttpRequest
from ...policies.housekeeping import task_of
from ...state.agent_state import resume_state
from ...state.conversation_locks import Draft
from ...state.ids import new_id
from ...turns.slots import NoSlot
from ...wire.anthropic_messages.parse import (
    ParsedMessages,
    check_messages_capabilities,
    parse_messages_request,
    resolve_server_tools,
)
from ...wire.anthropic_messages.retried_requests import WantedAnswer
from ...wire.anthropic_messages.serialize import AnswerWriter, MessageForm, OwnTools
from ...wire.json import is_quick
from ...wire.reducer import Usage
from ..attachments import attach
from ..detach import run_once
from ..exchange import Exchange
from ..services import Services, check_tool_names, own_tool_names
from ..text_approvals import decisions_from_messages
from .reconnect import AGENT_HEADER, ReplayableTurn, ReplayableTurns
from .threads import RequestThread, hold_thread
from .tokens import estimate_tokens
from .turn import SESSION_HEADER, AnthropicTurn, adjust_status, send_failure


@dataclass(frozen=True, slots=True)
class MessagesEndpoint:
    """Answers Messages requests.

    Attributes:
        own_tools: where calls of the agent's own tools are shown.
        replays: the turns whose answer Claude Code may request again.
    """

    own_tools: OwnTools
    replays: ReplayableTurns

    async def create(self, services: Services, exchange: Exchange) -> None:
        """Run an agent and answer with a message, streamed or whole."""
        body = await exchange.read_body(services.settings.limits, services.settings.deadlines)
        caller = services.settings.caller(exchange.principal, exchange.request)
        parsed = await run_off_loop(parse_messages_request, body, caller, long=not is_quick(body))
        request, housekeeping = parsed.request, services.settings.housekeeping
        session = exchange.request.header(SESSION_HEADER)
        form = self._form(services, exchange.request, parsed, refuses=session is None)
        if request.sampling.max_tokens == 0:  # warms the prompt cache, which is up to the model
            services.models.check(request.model, exchange.principal)
            await _send_answer(exchange, form, AnswerWriter(form, lambda _: ()).empty_response())
            return
        task = None if housekeeping is None else task_of(exchange.request, request)
        if housekeeping is not None and task is not None:
            exchange.note = "housekeeping"
            await _send_answer(exchange, form, _text_answer(form, await housekeeping.answer(task, request)))
            return
        long = not is_quick(body)
        handler = _MessagesHandler(services, exchange, parsed, form, long=long)
        known = await self.replays.identify(exchange, session, parsed, long=long) if session else None
        if known is None:
            work = (
                run_once(services, exchange, body, handler.answer)
                if services.needs_run_once(exchange)
                else handler.answer()
            )
        elif (turn := self.replays.find(services, known[0], streams=form.streams)) is not None:
            work = _replay_answer(turn, exchange, known[1], form)
        else:
            work = self.replays.run(known[0], services, exchange, body, handler.answer, streams=form.streams)
        del body  # or it would stay in memory for as long as the stream lasts
        await work

    def _form(self, services: Services, http: HttpRequest, parsed: ParsedMessages, *, refuses: bool) -> MessageForm:
        request = parsed.request
        return MessageForm(
            id=new_id("msg_"),
            model=request.model,
            streams=request.stream,
            thinking=parsed.thinking,
            own_tools="hidden" if self.own_tools == "blocks" and not _is_beta(http) else self.own_tools,
            refuses=refuses,
            most=services.settings.limits.answer,
            estimate=lambda: estimate_tokens(request),
        )


@dataclass(slots=True)
class _MessagesHandler:
    """A request that is being answered, and its turn, once that exists."""

    services: Services
    exchange: Exchange
    parsed: ParsedMessages
    form: MessageForm
    long: bool
    turn: AnthropicTurn | None = None

    async def answer(self) -> None:
        """Run the turn. An error in the middle of a stream is sent after the conversation is unlocked."""
        try:
            await self._answer()
        except OpenAICompatError as error:
            if not self.exchange.streaming:
                adjust_status(self.exchange, error)
                raise
            await send_failure(self.exchange, error, self.turn)

    async def _answer(self) -> None:
        services, exchange, parsed = self.services, self.exchange, self.parsed
        await services.check_rate(exchange)
        served = services.models.agent(parsed.request.model, exchange.principal)
        async with hold_thread(services, parsed) as thread:
            draft = await self._open_draft() if thread is None else None
            if draft is None:
                busy = await self._run(served, None, thread)
            else:
                async with draft:
                    busy = await self._run(served, draft, None)
        if busy is not None:  # the conversation is unlocked before the client gets its answer
            exchange.note, exchange.refused = "busy", "slots"
            await _send_answer(exchange, self.form, _text_answer(self.form, await services.settings.busy_text(busy)))

    async def _run(
        self, served: tuple[str, AgentBackend], draft: Draft | None, thread: RequestThread | None
    ) -> AgentRequest | None:
        """Run the turn. Returns its request if no slot is free and the answer is to be a message instead of a 429."""
        services, exchange, (agent, backend) = self.services, self.exchange, served
        can, store = backend.capabilities, services.state.store
        parsed = self.parsed if thread is None else thread.parsed
        request = await _prepare_request(services, parsed, backend, draft, long=self.long)
        request, answers = await decisions_from_messages(store, agent, can, request)
        found = thread.state if thread is not None else None if draft is None else draft.conversation.latest_state
        request, given = await resume_state(store, agent, can, request, found)
        self.turn = AnthropicTurn(
            services, exchange, self.form, served, request, answers=answers, draft=draft, thread=thread
        )
        self.turn.given = given
        try:
            await services.live.runner.run(self.turn)
        except NoSlot:
            if services.settings.busy is None or exchange.agent_started:
                raise
            return request
        return None

    async def _open_draft(self) -> Draft | None:
        """Open the stored conversation, if the server stores any and the request names one."""
        services, http = self.services, self.exchange.request
        conversations = services.settings.conversations
        if conversations is None or http.header(AGENT_HEADER) is not None:
            return None
        identifier = conversations.identify(http, self.parsed.body)
        if identifier is None and http.header(SESSION_HEADER) is not None:
            identifier = replace(conversations, sources=[SESSION_HEADER.decode()]).identify(http, {})
        principal = self.exchange.principal.id
        draft = await services.state.locks.open(principal, identifier, self.parsed.request, long=self.long)
        if draft is not None:
            # Headers are encoded as latin-1, but the id may be any text: it is sent as UTF-8.
            self.exchange.about.append(("X-Conversation-Id", draft.key.id.encode().decode("latin-1")))
        return draft


async def _replay_answer(turn: ReplayableTurn, exchange: Exchange, asked: WantedAnswer, form: MessageForm) -> None:
    """Answer a repeated request, whose first answer may have been lost."""
    try:
        await turn.replay(exchange, asked, form)
    except OpenAICompatError as error:
        if not exchange.streaming:
            adjust_status(exchange, error)
            raise
        await send_failure(exchange, error, None)


async def _prepare_request(
    services: Services, parsed: ParsedMessages, backend: AgentBackend, draft: Draft | None, *, long: bool
) -> AgentRequest:
    """The request as the agent gets it. Raises InvalidRequest if the agent cannot handle it."""
    conversation, can = parsed.conversation, backend.capabilities
    if draft is None:
        conversation.check_complete()
    else:  # calls without a result have theirs in the stored conversation
        conversation.check_end()
    check_messages_capabilities(parsed, can)
    request = parsed.request
    if parsed.server_tools:
        request = resolve_server_tools(parsed, await own_tool_names(backend, request), can)
    if parsed.tool_places:
        await check_tool_names(backend, request, parsed.tool_places.keys(), parsed.tool_places.__getitem__)
    if draft is not None:
        request = replace(draft.request, web_search_options=request.web_search_options)
        long = long or draft.long
    request = await run_off_loop(services.settings.messages.apply, request, long=long or len(request.messages) > MANY)
    return await attach(services, request, can, lambda: conversation.files)


def _is_beta(http: HttpRequest) -> bool:
    """True if the client uses the beta API, whose types have content blocks for the agent's own tools."""
    return "true" in parse_qs(http.query).get("beta", ()) or "mcp-client" in (http.header(b"anthropic-beta") or "")


def _text_answer(form: MessageForm, text: str) -> bytes:
    """An answer with `text`, as if an agent had produced it."""
    writer = AnswerWriter(form, lambda _: ())
    # A chore may have an empty answer, and repeating it costs nothing.
    return writer.feed([*([text] if text else []), Finished("stop")]) + writer.end(Usage(), may_be_silent=True)


async def _send_answer(exchange: Exchange, form: MessageForm, answer: bytes) -> None:
    if form.streams:
        await exchange.end(answer)
    else:
        await exchange.answer(200, answer)
