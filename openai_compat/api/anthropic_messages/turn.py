"""One turn of the Messages API, streamed or whole."""

from __future__ import annotations

from ...agent_request import AgentRequest
from ...aio.off_loop import run_off_loop
from ...backend import AgentBackend
from ...errors import OpenAICompatError
from ...state.approvals import Binding, Decisions, record_decisions
from ...state.conversation_locks import Draft
from ...stores.port import TurnCommit
from ...turns.plan import Taken, TurnPlan
from ...wire.anthropic_messages.serialize import AnswerWriter, MessageForm
from ...wire.presentation import Presentation
from ...wire.reducer import Reducer
from ..delivery import WholeAnswer
from ..exchange import Exchange
from ..services import Services
from ..text_approvals import ApprovalPrompts, has_approval_tool
from .threads import RequestThread

SESSION_HEADER = b"x-claude-code-session-id"
"""Header with the id of Claude Code's session, the same for a whole conversation. No other client sends it."""

RETRIED_STATUSES = frozenset([400, 404, 422])
"""Statuses on which Claude Code changes its request and sends it again, or sends it to another model."""


class AnthropicTurn(TurnPlan[bytes]):
    """Writes the message while the agent produces it, or all of it at the end."""

    api = "anthropic_messages"

    def __init__(
        self,
        services: Services,
        exchange: Exchange,
        form: MessageForm,
        served: tuple[str, AgentBackend],
        request: AgentRequest,
        *,
        answers: Decisions | None = None,
        draft: Draft | None = None,
        thread: RequestThread | None = None,
    ) -> None:
        """`answers` are the request's decisions about an earlier turn's questions; `thread`, if given, stores the turn."""
        super().__init__(
            exchange if form.streams else WholeAnswer(exchange),
            exchange,
            id=form.id,
            agent=served[0],
            backend=served[1],
            requests=[request],
            draft=draft,
        )
        self.bounded = not form.streams
        # Claude Code requests the rest of an answer that was cut, and the agent would do everything again.
        self.cuts = exchange.request.header(SESSION_HEADER) is None
        self.fails_at_once = draft is None and thread is None
        self._services = services
        self._exchange = exchange
        self._prompts = ApprovalPrompts(by_tool=has_approval_tool(request))
        self.writer = AnswerWriter(form, self._prompts.ask)
        self._answers = answers
        self._thread = thread
        keeps = draft is not None or thread is not None
        self._reply = Reducer() if keeps else None
        self._reply_view = Presentation("hidden", ask=self._prompts.ask)

    async def before_start(self) -> None:
        """Record the decisions: from now on the agent acts on them."""
        if self._answers is not None:
            await record_decisions(self._services.state.store, self.requester.principal.id, self._answers)

    def feed(self, taken: Taken) -> bytes:
        """The events of a stream; a whole answer is collected until the end."""
        data = b""
        for _, items in taken:
            data += self.writer.feed(items)
            if self._reply is not None:
                self._reply.feed(self._reply_view.show(items))
        return data

    def idle(self) -> bytes:
        """The first event, which shows a client during a silence that the request has arrived."""
        return self.writer.begin()

    async def ending(self) -> tuple[TurnCommit | None, bytes]:
        """The end of the stream, or the whole answer; and the data to store for the conversation or the thread."""
        principal, request = self.requester.principal.id, self.requests[0]
        approvals = self._prompts.to_records(self.id, Binding(principal, self.agent, request.conversation_id))
        thread, draft = self._thread, self.draft
        states = self.states(None if thread is None else self.id)
        if self._reply is None and not approvals and not states:
            return None, self.writer.end(self.usage)
        reply = None if self._reply is None else self._reply.message()
        outcome = TurnCommit(
            principal=principal,
            token=self.id if draft is None else draft.token,
            response=None if thread is None or reply is None else thread.to_stored_response(self.id, reply),
            approvals=approvals,
            states=states,
            conversation=None
            if draft is None or reply is None
            else await run_off_loop(draft.to_turn, reply, long=draft.long),
        )
        return outcome, self.writer.end(self.usage)

    def not_committed(self) -> None:
        """Take back the end of the answer: an error follows."""
        self.writer.undo_end()

    async def fail(self, error: OpenAICompatError) -> None:
        """Answer with the error, unless the conversation has to be unlocked first."""
        if not self.fails_at_once:
            raise error
        await send_failure(self._exchange, error, self)


async def send_failure(exchange: Exchange, error: OpenAICompatError, turn: AnthropicTurn | None) -> None:
    """Answer with an error that does not make Claude Code run the agent again."""
    closing = turn.writer.events_before_error() if turn is not None and exchange.streaming else b""
    await exchange.fail(adjust_status(exchange, error), closing)


def adjust_status(exchange: Exchange, error: OpenAICompatError) -> OpenAICompatError:
    """The error with a status that Claude Code respects: it retries every 529, whatever the headers say."""
    # Unchanged: Claude Code shortens a conversation that is too long, and may retry an error that is safe to retry.
    kept = error.code == "context_length_exceeded" or error.should_retry is True
    if error.status == 529:
        error.status = 503
    elif (
        error.status in RETRIED_STATUSES
        and exchange.agent_started
        and exchange.request.header(SESSION_HEADER)
        and not kept
    ):
        error.status = 424
    return error
