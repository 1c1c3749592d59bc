"""One turn of Ollama's API, in lines or whole."""

from __future__ import annotations

from ...agent_request import AgentRequest
from ...backend import AgentBackend
from ...errors import OpenAICompatError
from ...state.approvals import Binding, Decisions, record_decisions
from ...state.ids import new_id
from ...stores.port import TurnCommit
from ...turns.plan import Taken, TurnPlan
from ...wire.ollama.serialize import Durations, LineForm, LineWriter
from ..delivery import WholeAnswer
from ..exchange import Exchange
from ..services import Services
from ..text_approvals import ApprovalPrompts


class OllamaTurn(TurnPlan[bytes]):
    """Writes the answer while the agent produces it, or all of it at the end. Only questions and agent state are stored."""

    api = "ollama"
    fails_at_once = True

    def __init__(
        self,
        services: Services,
        exchange: Exchange,
        form: LineForm,
        served: tuple[str, AgentBackend],
        request: AgentRequest,
        *,
        answers: Decisions | None,
    ) -> None:
        """`answers` are the request's decisions about an earlier turn's questions."""
        super().__init__(
            exchange if form.streams else WholeAnswer(exchange),
            exchange,
            id=new_id("ollama_"),
            agent=served[0],
            backend=served[1],
            requests=[request],
        )
        self.bounded = not form.streams
        self._services = services
        self._exchange = exchange
        # In text: clients lose the ids of calls, which an approval tool of theirs would need.
        self._prompts = ApprovalPrompts(by_tool=False)
        self._writer = LineWriter(form, self._prompts.ask)
        self._answers = answers
        self._first: float | None = None

    async def before_start(self) -> None:
        """Record the decisions: from now on the agent acts on them."""
        if self._answers is not None:
            await record_decisions(self._services.state.store, self.requester.principal.id, self._answers)

    def feed(self, taken: Taken) -> bytes:
        """The lines of a stream; a whole answer is collected until the end."""
        if self._first is None:
            self._first = self._exchange.seconds
        return b"".join([self._writer.feed(items) for _, items in taken])

    def idle(self) -> bytes:
        """Nothing: a stream begins with its first line."""
        return b""

    async def ending(self) -> tuple[TurnCommit | None, bytes]:
        """The end of the stream, or the whole answer; and the questions to store."""
        principal, total = self.requester.principal.id, self._exchange.seconds
        first = total if self._first is None else self._first
        last = self._writer.end(self.usage, Durations(int(total * 1e9), int(first * 1e9)))
        approvals = self._prompts.to_records(self.id, Binding(principal, self.agent, None))
        states = self.states()
        if not approvals and not states:
            return None, last
        return TurnCommit(principal=principal, token=self.id, approvals=approvals, states=states), last

    async def fail(self, error: OpenAICompatError) -> None:
        """Answer with the error at once: nothing has to be released first."""
        await self._exchange.fail(error)
