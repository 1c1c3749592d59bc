"""One turn of chat completions, or of legacy ones: several choices side by side, streamed or whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from pydantic_core import to_json

from ...agent_request import AgentRequest
from ...aio.off_loop import off_loop
from ...backend import AgentBackend
from ...errors import InvalidRequest, OpenAICompatError
from ...events import Finished
from ...reducer import FinalMessage, Item, Reducer, Usage
from ...state.approvals import Binding, Decisions, record_decisions
from ...state.conversation_locks import Draft
from ...state.event_log import EventLogWriter
from ...stores.port import Approval, StoredCompletion, TurnCommit
from ...turns.plan import TurnPlan
from ...turns.run_group import Taken
from ...wire.chat.call_order import CallOrder
from ...wire.chat.serialize import ChatForm
from ...wire.presentation import Presentation, Visibility
from ..delivery import StreamedAnswer, WholeAnswer
from ..exchange import Exchange
from ..services import Services
from ..text_approvals import ApprovalPrompts, has_approval_tool


class ChoiceStream(Protocol):
    """One choice of a streamed answer."""

    def begin(self) -> bytes:
        """The first bytes of the choice, if they were not written yet."""
        ...

    def feed(self, items: list[Item]) -> bytes:
        """The bytes for these items."""
        ...


class ChoicesForm(Protocol):
    """How an API writes its answers."""

    @property
    def id(self) -> str:
        """The id of the answer, by which a stored one is found again."""
        ...

    def stream(self, index: int) -> ChoiceStream:
        """The writer of one choice of a stream."""
        ...

    def stream_end(self, usage: Usage) -> bytes:
        """The bytes after the last choice."""
        ...

    def whole(self, messages: Sequence[FinalMessage]) -> bytes:
        """The whole body of a plain answer, one message for each choice."""
        ...


class ChoicesTurn(TurnPlan[bytes]):
    """Writes the choices as they come, or all of them at the end."""

    api = "completions"
    # What a conversation keeps: all of it but what is only shown.
    _said: Reducer | None = None
    _said_view: Presentation | None = None

    def __init__(
        self,
        services: Services,
        exchange: Exchange,
        form: ChoicesForm,
        served: tuple[str, AgentBackend],
        requests: Sequence[AgentRequest],
        *,
        draft: Draft | None = None,
        log: EventLogWriter | None = None,
    ) -> None:
        """`served` is the agent's own name and the agent."""
        stream, number = requests[0].stream, len(requests)
        if number > services.settings.limits.choices:
            text = f"At most {services.settings.limits.choices} answers can be asked for at once."
            raise InvalidRequest(text, param="n", code="invalid_value")
        super().__init__(
            StreamedAnswer(exchange, log) if stream else WholeAnswer(exchange),
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
        self._streams: list[ChoiceStream] = []
        self._views: list[Presentation] = []
        self._shown: list[Reducer] = []
        for index in range(number):
            self._views.append(self.view())
            if stream:
                self._streams.append(form.stream(index))
            else:
                self._shown.append(Reducer())

    def view(self) -> Presentation:
        """The view of one choice."""
        return Presentation("hidden", refusal_as_text=True)  # legacy completions have text and nothing else

    def feed(self, taken: Taken) -> bytes:
        """The bytes of a stream. What makes a whole answer is folded; a conversation keeps all but what is only shown."""
        data = b""
        for index, said in taken:
            if self._said is not None and self._said_view is not None:
                self._said.feed(self._said_view.show(said))
            items = self._views[index].show(said)
            if self._shown:
                self._shown[index].feed(items)
            if self._streams:
                chunks = self._streams[index].feed(items)
                if index and chunks:  # the choices before it begin first: accumulators know them by their order
                    data += b"".join([stream.begin() for stream in self._streams[:index]])
                data = data + chunks if data else chunks
        return data

    def idle(self) -> bytes:
        """Nothing: a choice's first bytes are written with what its agent says first."""
        return b""

    async def ending(self) -> tuple[TurnCommit | None, bytes]:
        """The end of the stream, or the answer; nothing is kept."""
        return None, self._form.stream_end(self.usage) if self._streams else self.whole()

    def whole(self) -> bytes:
        """The whole body of the plain answer, with the choices that are told."""
        return self._form.whole(list(map(Reducer.message, self._shown)))

    async def fail(self, error: OpenAICompatError) -> None:
        """Answer with the error, unless the conversation or the log has to be free first."""
        if not self.fails_at_once:
            raise error
        await self._exchange.fail(error)


class ChatCompletionTurn(ChoicesTurn):
    """Keeps what chat can ask for: the conversation, the stream's log, a stored completion, questions to people."""

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
        """`answers` is what the request decides about an earlier turn's questions, `store` whether the answer is kept."""
        self._services = services
        self._prompts = ApprovalPrompts(by_tool=bool(requests[0].tools) and has_approval_tool(requests[0]))
        super().__init__(services, exchange, form, served, requests, draft=draft, log=log)
        self._chat = form
        self._answers = answers
        self._log = log
        self._store = store
        if store and not self._shown:
            self._shown = [Reducer() for _ in requests]
        if draft is not None:
            self._said, self._said_view = Reducer(), self.view("hidden")

    def view(self, visibility: Visibility | None = None) -> Presentation:
        """A view of one choice: as the server shows what its agents do, unless it is to be otherwise."""
        visibility = visibility or self._services.settings.visibility
        # Calls are put in order, since SDKs read one's arguments as JSON as soon as a piece of another one comes.
        order = CallOrder(self._services.settings.limits.answer) if self.requests[0].tools else None
        return Presentation(visibility, ask=self._prompts.ask, call_order=order)

    async def before_start(self) -> None:
        """Record the decisions: from now on the agent knows them."""
        if self._answers is not None:
            await record_decisions(self._services.state.store, self.requester.principal.id, self._answers)

    async def ending(self) -> tuple[TurnCommit | None, bytes]:
        """The end of the stream, or the answer; what the conversation, the log and the stored completions keep."""
        last = self._form.stream_end(self.usage) if self._streams else self.whole()
        approvals: tuple[Approval, ...] = ()
        if self._prompts.asked:
            bound = Binding(self.requester.principal.id, self.agent, self.requests[0].conversation_id)
            approvals = self._prompts.kept(self.id, bound)
        states = () if self.last_state is None else self.states()
        if self.draft is None and self._log is None and not self._store and not approvals and not states:
            return None, last
        turn = None
        if self.draft is not None and self._said is not None:
            turn = await off_loop(self.draft.turn, self._said.message(), long=self.draft.long)
        outcome = TurnCommit(
            principal=self.requester.principal.id,
            token=self.id if self.draft is None else self.draft.token,
            response=None if self._log is None else self._log.ended("completed"),
            events=None if self._log is None else await self._log.rest(last),
            approvals=approvals,
            states=states,
            conversation=turn,
            completion=self._stored(self.whole() if self._streams else last) if self._store else None,
        )
        return outcome, last

    def _stored(self, answer: bytes) -> StoredCompletion:
        """The answer as `store: true` asks for it."""
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


async def answer_with_text(exchange: Exchange, form: ChoicesForm, text: str, *, stream: bool) -> None:
    """Answer with `text` as if an agent had said it; none is run."""
    items: list[Item] = [*([text] if text else []), Finished("stop")]
    if stream:
        await exchange.write(form.stream(0).feed(items))
        await exchange.end(form.stream_end(Usage()))
    else:
        reducer = Reducer()
        reducer.feed(items)
        await exchange.answer(200, form.whole([reducer.message()]))
