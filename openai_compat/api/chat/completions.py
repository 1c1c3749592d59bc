"""`POST /v1/chat/completions`, from the request body to the turn that answers it: parallel choices, streamed or whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from ...agent_request import AgentRequest
from ...aio.off_loop import MANY, run_off_loop
from ...backend import AgentBackend
from ...errors import InvalidRequest, OpenAICompatError
from ...events import Finished
from ...policies.housekeeping import task_of
from ...policies.messages import MessagePolicy
from ...state.agent_state import NO_STATE, InitialState, resume_state
from ...state.approvals import Binding, Decisions, record_decisions
from ...state.conversation_locks import Draft
from ...state.event_log import EventLogWriter
from ...stores.port import Approval, StoredCompletion, TurnCommit
from ...turns.plan import Taken, TurnPlan
from ...turns.slots import NoSlot
from ...wire.chat.call_order import CallOrder
from ...wire.chat.legacy_serialize import CompletionForm, CompletionStream
from ...wire.chat.parse import ParsedChat, check_capabilities, parse_chat_object, parse_plain_chat
from ...wire.chat.serialize import ChatForm, ChatStream
from ...wire.conversation_rules import check_conversation
from ...wire.json import QUICK_BYTES, decode_object, is_quick
from ...wire.presentation import Presentation, Visibility
from ...wire.reducer import Item, Reducer, Texts, Usage
from ..attachments import attach, message_places
from ..delivery import StreamedAnswer, WholeAnswer
from ..detach import run_once
from ..exchange import Exchange
from ..services import Services, check_tool_names, now
from ..stream_recovery import recover_stream, recoverable_stream
from ..text_approvals import ApprovalPrompts, decisions_from_messages, has_approval_tool, may_decide


async def create(services: Services, exchange: Exchange) -> None:
    """Run an agent and answer with a chat completion, streamed or whole; or resume a stream that was lost."""
    last_event = exchange.request.first.get(b"last-event-id")
    if last_event is not None:
        await recover_stream(services, exchange, last_event.decode("latin-1"))
        return
    body = await exchange.read_body(services.settings.limits, services.settings.deadlines)
    caller, long = services.settings.caller(exchange.principal, exchange.request), len(body) > QUICK_BYTES
    raw = await run_off_loop(decode_object, body) if long else decode_object(body)
    parsed = parse_plain_chat(raw, caller)
    if parsed is None:
        long = not is_quick(body)
        parsed = await run_off_loop(parse_chat_object, raw, caller, long=long)
    elif len(parsed.request.raw_messages) > MANY:
        long = True  # plain messages are recognized quickly, but a conversation or a policy goes through each of them
    request, housekeeping = parsed.request, services.settings.housekeeping
    # Chat programs request titles and tags along with every message: these use no slot and run no agent.
    task = None if housekeeping is None else task_of(exchange.request, request)
    # Either id leads to the other, in logs and metrics too.
    identifier = exchange.request_id.replace("req_", "chatcmpl-", 1)
    form = ChatForm(identifier, now(), request.model, parsed.custom_tools, parsed.include_usage)
    if housekeeping is not None and task is not None:
        exchange.note = "housekeeping"
        await answer_with_text(exchange, form, await housekeeping.answer(task, request), stream=request.stream)
        return
    handler = _ChatHandler(services, exchange, parsed, form, long)
    work = run_once(services, exchange, body, handler.answer) if services.needs_run_once(exchange) else handler.answer()
    del body, caller  # or they would stay in memory for as long as the stream lasts
    await work


@dataclass(slots=True)
class _ChatHandler:
    """A request that is being answered. `long` is True if going through its messages takes long."""

    services: Services
    exchange: Exchange
    parsed: ParsedChat
    form: ChatForm
    long: bool

    async def answer(self) -> None:
        """Run the turn, in its conversation if it has one."""
        services, exchange, parsed = self.services, self.exchange, self.parsed
        if services.live.rates is not None:
            await services.check_rate(exchange)
        if parsed.store:
            # Before the agent starts: SDKs retry a 503, which is safe as long as nothing has run.
            await services.state.check_available()
        served = services.models.agent(parsed.request.model, exchange.principal)
        draft = None if services.settings.conversations is None else await self._open_draft()
        if draft is None:
            busy = await self._run(served, None)
        else:
            self.long = self.long or draft.long
            async with draft:
                busy = await self._run(served, draft)
        if busy is not None:  # the conversation is unlocked before the client gets its answer
            exchange.note, exchange.refused = "busy", "slots"
            await answer_with_text(exchange, self.form, await services.settings.busy_text(busy), stream=busy.stream)

    async def _run(self, served: tuple[str, AgentBackend], draft: Draft | None) -> AgentRequest | None:
        """Run the turn. Returns its request if no slot is free and the answer is to be a message instead of a 429."""
        services, exchange, parsed, (agent, backend) = self.services, self.exchange, self.parsed, served
        store, can, policy = services.state.store, backend.capabilities, services.settings.messages
        request = parsed.request if draft is None else draft.request
        if draft is None and not request.plain:
            check_conversation(request.messages)
        check_capabilities(parsed.request, can)
        if parsed.tool_places:
            await check_tool_names(backend, request, parsed.tool_places.keys(), parsed.tool_places.__getitem__)
        # The default policy leaves a user's first message as it is.
        if len(request.raw_messages) > 1 or request.raw_messages[0]["role"] == "assistant" or policy != DEFAULT_POLICY:
            request = await run_off_loop(policy.apply, request) if self.long else policy.apply(request)
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
                    turn = self._build_turn(served, request, answers=answers, given=given, draft=draft, log=log)
                    await services.live.runner.run(turn)
            else:
                turn = self._build_turn(served, request, answers=answers, given=given, draft=draft)
                await services.live.runner.run(turn)
        except NoSlot:
            if services.settings.busy is None or exchange.agent_started:
                raise
            return request
        return None

    def _build_turn(
        self,
        served: tuple[str, AgentBackend],
        request: AgentRequest,
        *,
        answers: Decisions | None,
        given: InitialState,
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

    async def _open_draft(self) -> Draft | None:
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


DEFAULT_POLICY = MessagePolicy()


class ChoicesTurn(TurnPlan[bytes]):
    """Writes the choices while the agent produces them, or all of them at the end."""

    api = "completions"
    # The reply as a conversation stores it: without the parts that are only shown.
    _reply: Reducer | None = None
    _reply_view: Presentation | None = None

    def __init__(
        self,
        services: Services,
        exchange: Exchange,
        form: ChatForm | CompletionForm,
        served: tuple[str, AgentBackend],
        requests: Sequence[AgentRequest],
        *,
        draft: Draft | None = None,
        log: EventLogWriter | None = None,
    ) -> None:
        """`served` is the agent's own name and its backend."""
        stream, number = requests[0].stream, len(requests)
        if number > services.settings.limits.choices:
            text = f"At most {services.settings.limits.choices} answers can be asked for at once."
            raise InvalidRequest(text, param="n", code="invalid_value")
        super().__init__(
            WholeAnswer(exchange) if not stream else exchange if log is None else StreamedAnswer(exchange, log),
            exchange,
            id=form.id,
            agent=served[0],
            backend=served[1],
            requests=requests,
            draft=draft,
        )
        self.bounded = not stream
        self.fails_at_once = draft is None and log is None
        self._exchange = exchange
        self._form = form
        self._streams: list[ChatStream | CompletionStream] = []
        self._views: list[Presentation | None] = [None] * number
        self._lengths = [0] * number
        self._reducers: list[Reducer] = []
        for index in range(number):
            if stream:
                self._streams.append(form.stream(index))
            else:
                self._reducers.append(Reducer())

    def view(self, length: int) -> Presentation:
        """The view of one choice, after `length` characters of its text were shown."""
        # Legacy completions consist of text alone.
        return Presentation("hidden", refusal_as_text=True, length=length)

    def feed(self, taken: Taken) -> bytes:
        """Serialize the chunks of a stream, or collect a whole answer; collect the reply that a conversation stores."""
        data = b""
        for index, said in taken:
            if self._reply is not None and self._reply_view is not None:
                self._reply.feed(self._reply_view.show(said))
            items = self._show(index, said)
            if self._reducers:
                self._reducers[index].feed(items)
            if self._streams:
                chunks = self._streams[index].feed(items)
                if index and chunks:  # earlier choices begin first: accumulators identify choices by their order
                    data += b"".join([stream.begin() for stream in self._streams[:index]])
                data = data + chunks if data else chunks
        return data

    def _show(self, index: int, said: list[Item]) -> list[Item]:
        """The items to show. Most turns consist of texts and their end, which are shown unchanged and need no view."""
        view = self._views[index]
        if view is None:
            if type(said) is Texts:
                self._lengths[index] += sum(map(len, said))
                return said
            if isinstance(said[0], Finished):
                return said
            view = self._views[index] = self.view(self._lengths[index])
        return view.show(said)

    def idle(self) -> bytes:
        """Nothing: a choice's first chunk is written with its agent's first output."""
        return b""

    async def ending(self) -> tuple[TurnCommit | None, bytes]:
        """The end of the stream, or the whole answer; nothing is stored."""
        return None, self._form.stream_end(self.usage) if self._streams else self.whole_response()

    def whole_response(self) -> bytes:
        """The body of a whole answer, with all shown choices."""
        return self._form.whole_response(list(map(Reducer.message, self._reducers)))

    async def fail(self, error: OpenAICompatError) -> None:
        """Answer with the error, unless the conversation or the log has to be released first."""
        if not self.fails_at_once:
            raise error
        await self._exchange.fail(error)


class ChatCompletionTurn(ChoicesTurn):
    """Adds what chat supports: conversations, stream logs, stored completions and approvals."""

    api = "chat"

    def __init__(
        self,
        services: Services,
        exchange: Exchange,
        form: ChatForm,
        served: tuple[str, AgentBackend],
        requests: Sequence[AgentRequest],
        *,
        store: bool,
        answers: Decisions | None,
        draft: Draft | None,
        log: EventLogWriter | None,
    ) -> None:
        """`answers` are the request's decisions about an earlier turn's questions; `store` stores the answer."""
        self._services = services
        self._prompts = ApprovalPrompts(by_tool=bool(requests[0].tools) and has_approval_tool(requests[0]))
        super().__init__(services, exchange, form, served, requests, draft=draft, log=log)
        self._chat = form
        self._answers = answers
        self._log = log
        self._store = store
        if store and not self._reducers:
            self._reducers = [Reducer() for _ in requests]
        if draft is not None:
            self._reply, self._reply_view = Reducer(), self.view(0, "hidden")

    def view(self, length: int, visibility: Visibility | None = None) -> Presentation:
        """A view of one choice, with the server's visibility unless another is given."""
        visibility = visibility or self._services.settings.visibility
        # Calls are put in order: SDKs parse a call's arguments as JSON as soon as a delta of another call arrives.
        order = CallOrder(self._services.settings.limits.answer) if self.requests[0].tools else None
        return Presentation(visibility, ask=self._prompts.ask, call_order=order, length=length)

    async def before_start(self) -> None:
        """Record the decisions: from now on the agent acts on them."""
        if self._answers is not None:
            await record_decisions(self._services.state.store, self.requester.principal.id, self._answers)

    async def ending(self) -> tuple[TurnCommit | None, bytes]:
        """The end of the stream, or the whole answer; and the data for the conversation, the log and the stored completions."""
        last = self._form.stream_end(self.usage) if self._streams else self.whole_response()
        approvals: tuple[Approval, ...] = ()
        if self._prompts.questions:
            bound = Binding(self.requester.principal.id, self.agent, self.requests[0].conversation_id)
            approvals = self._prompts.to_records(self.id, bound)
        states = () if self.last_state is None else self.states()
        if self.draft is None and self._log is None and not self._store and not approvals and not states:
            return None, last
        turn = None
        if self.draft is not None and self._reply is not None:
            turn = await run_off_loop(self.draft.to_turn, self._reply.message(), long=self.draft.long)
        outcome = TurnCommit(
            principal=self.requester.principal.id,
            token=self.id if self.draft is None else self.draft.token,
            response=None if self._log is None else self._log.response_with_status("completed"),
            events=None if self._log is None else await self._log.final_batch(last),
            approvals=approvals,
            states=states,
            conversation=turn,
            completion=self._to_stored_completion(self.whole_response() if self._streams else last)
            if self._store
            else None,
        )
        return outcome, last

    def _to_stored_completion(self, answer: bytes) -> StoredCompletion:
        """The answer as a stored completion (`store: true`)."""
        request = self.requests[0]
        messages: list[dict[str, Any]] = request.raw_messages
        return StoredCompletion(
            id=self.id,
            created=self._chat.created,
            model=self._chat.model,
            metadata=dict(request.metadata),
            body=answer.decode(),
            messages=to_json(messages, inf_nan_mode="null").decode(),
        )


async def answer_with_text(exchange: Exchange, form: ChatForm | CompletionForm, text: str, *, stream: bool) -> None:
    """Answer with `text` as if an agent had produced it; none is run."""
    items: list[Item] = [*([text] if text else []), Finished("stop")]
    if stream:
        await exchange.write(form.stream(0).feed(items))
        await exchange.end(form.stream_end(Usage()))
    else:
        reducer = Reducer()
        reducer.feed(items)
        await exchange.answer(200, form.whole_response([reducer.message()]))
