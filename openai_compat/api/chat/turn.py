"""One turn of chat completions, or of legacy ones: several choices side by side, streamed or whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ...aio.off_loop import off_loop
from ...backend import AgentBackend, AgentRequest
from ...errors import InvalidRequest, OpenAICompatError
from ...events import Finished
from ...reducer import FinalMessage, Item, Reducer, Usage
from ...state.approvals import Decisions, record_decisions
from ...state.draft import Draft
from ...state.event_log import EventLogWriter
from ...stores.port import Approval, StoredCompletion, TurnOutcome
from ...turns.run import TurnPlan
from ...turns.run_group import Taken
from ..delivery import StreamedAnswer, WholeAnswer
from ..exchange import Exchange
from ..services import Services


class EventFilter(Protocol):
    """How an API shows what an agent says."""

    def show(self, items: list[Item]) -> list[Item]:
        """The items to be shown for these."""
        ...


class ChoiceStream(Protocol):
    """One choice of a streamed answer."""

    def begin(self) -> bytes:
        """The first bytes of the choice, if they were not written yet."""
        ...

    def feed(self, items: list[Item]) -> bytes:
        """The bytes for these items."""
        ...


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """How one API writes an answer.

    Attributes:
        stream: makes the writer of one choice, by its index.
        stream_end: what follows the last choice.
        whole: the plain answer.
        keep: makes of the plain answer what is to be stored, None if it is not wanted.
    """

    stream: Callable[[int], ChoiceStream]
    stream_end: Callable[[Usage], bytes]
    whole: Callable[[Sequence[FinalMessage]], bytes]
    keep: Callable[[bytes], StoredCompletion] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoicesSpec:
    """Who answers: one agent, one request for each choice.

    Attributes:
        id: the answer's id.
        view: makes the view of one choice.
        said_view: makes the view of what the conversation keeps; None without one.
        draft: the conversation that the only request belongs to.
        answers: what the request decides about an earlier turn's questions.
        questions: what the turn asks people about, once it is over.
    """

    id: str
    agent: str
    backend: AgentBackend
    requests: Sequence[AgentRequest]
    view: Callable[[], EventFilter]
    said_view: Callable[[], EventFilter] | None = None
    draft: Draft | None = None
    answers: Decisions | None = None
    questions: Callable[[], tuple[Approval, ...]] | None = None


class ChoicesTurn(TurnPlan[bytes]):
    """Writes the choices as they come, or all of them at the end."""

    def __init__(
        self,
        services: Services,
        exchange: Exchange,
        spec: ChoicesSpec,
        form: AnswerFormat,
        log: EventLogWriter | None = None,
    ) -> None:
        stream, number = spec.requests[0].stream, len(spec.requests)
        if number > services.settings.limits.choices:
            text = f"At most {services.settings.limits.choices} answers can be asked for at once."
            raise InvalidRequest(text, param="n", code="invalid_value")
        super().__init__(
            StreamedAnswer(exchange, log) if stream else WholeAnswer(exchange),
            exchange,
            id=spec.id,
            agent=spec.agent,
            backend=spec.backend,
            requests=spec.requests,
            draft=spec.draft,
        )
        self.bounded = not stream
        self.fails_at_once = spec.draft is None and log is None
        self._store = services.state.store
        self._exchange = exchange
        self._spec = spec
        self._form = form
        self._log = log
        self._streams = [form.stream(index) for index in range(number)] if stream else []
        self._views = [spec.view() for _ in range(number)]
        self._shown = [Reducer() for _ in range(number)] if form.keep is not None or not stream else []
        self._said = self._said_view = None
        if spec.draft is not None and spec.said_view is not None:
            self._said, self._said_view = Reducer(), spec.said_view()

    async def before_start(self) -> None:
        """Record the decisions: from now on the agent knows them."""
        if self._spec.answers is not None:
            await record_decisions(self._store, self.requester.principal.id, self._spec.answers)

    def feed(self, taken: Taken) -> bytes:
        """The bytes of a stream; what makes a whole answer is folded."""
        return b"".join([self._feed(index, items) for index, items in taken])

    def _feed(self, index: int, items: list[Item]) -> bytes:
        if self._said is not None and self._said_view is not None:
            self._said.feed(self._said_view.show(items))
        items = self._views[index].show(items)
        if self._shown:
            self._shown[index].feed(items)
        if not self._streams:
            return b""
        data = self._streams[index].feed(items)
        # The choices before it begin first: accumulators know them by their order.
        return b"".join([stream.begin() for stream in self._streams[:index]]) + data if data else b""

    def idle(self) -> bytes:
        """Nothing: a choice's first bytes are written with what its agent says first."""
        return b""

    async def ending(self) -> tuple[TurnOutcome | None, bytes]:
        """The end of the stream, or the answer; what the conversation, the log and the stored completions keep."""
        spec, form, messages = self._spec, self._form, [reducer.message() for reducer in self._shown]
        whole = form.whole(messages) if messages else b""
        last = form.stream_end(self.usage) if self._streams else whole
        approvals = spec.questions() if spec.questions is not None else ()
        if spec.draft is None and form.keep is None and self._log is None and not approvals:
            return None, last
        turn = None
        if spec.draft is not None and self._said is not None:
            turn = await off_loop(spec.draft.turn, self._said.message(), long=spec.draft.long)
        outcome = TurnOutcome(
            principal=self.requester.principal.id,
            token=self.id if spec.draft is None else spec.draft.token,
            response=None if self._log is None else self._log.ended("completed"),
            events=None if self._log is None else await self._log.rest(last),
            approvals=approvals,
            conversation=turn,
            completion=None if form.keep is None else form.keep(whole),
        )
        return outcome, last

    async def fail(self, error: OpenAICompatError) -> None:
        """Answer with the error, unless the conversation or the log has to be free first."""
        if not self.fails_at_once:
            raise error
        await self._exchange.fail(error)


async def answer_with_text(exchange: Exchange, form: AnswerFormat, text: str, *, stream: bool) -> None:
    """Answer with `text` as if an agent had said it; none is run."""
    items: list[Item] = [*([text] if text else []), Finished("stop")]
    if stream:
        await exchange.start_stream()
        await exchange.write(form.stream(0).feed(items))
        await exchange.end(form.stream_end(Usage()))
    else:
        reducer = Reducer()
        reducer.feed(items)
        await exchange.answer(200, form.whole([reducer.message()]))
