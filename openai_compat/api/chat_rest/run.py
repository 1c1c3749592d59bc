"""One turn of the chat REST API: written in the format of its route, and stored in its conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...agent_request import AgentRequest
from ...backend import AgentBackend
from ...state.agent_state import NO_STATE, InitialState
from ...state.approvals import Binding, Decisions, approval_records, record_decisions
from ...state.conversation_locks import Draft, to_stored_items, transcript_hash
from ...state.event_log import EventLogWriter
from ...stores.port import Store
from ...stores.records import Approval, ConversationTurn, TurnCommit
from ...turns.plan import Delivery, Requester, Taken, TurnPlan
from ...wire.chat_rest.forms import FinishedTurn, TurnForm
from ...wire.chat_rest.serialize import TurnRecord, groups_of, iso_time, message_id, messages_of, usage_of
from ...wire.chat_rest.types import Message
from ...wire.reducer import FinalMessage
from ...wire.serialize_messages import reply_message
from ..services import now
from .lookup import give_title, pending_approval


@dataclass(frozen=True, slots=True)
class PreparedTurn:
    """A turn that is ready to run.

    Attributes:
        id: the turn's id.
        agent: the agent's own name; `provider` is the provider that it belongs to.
        request: the request to the agent, with the conversation history.
        draft: the draft of its conversation.
        record: the record of the agent's output.
        user_items: the client's messages that the conversation does not have yet, as they will be stored.
        user: the API's representation of the user's message among these.
        settings: everything needed to call the agent the same way again, once its calls are decided.
        answers: decisions about the calls of an earlier turn.
        given: the agent state that it continues.
    """

    id: str
    agent: str
    provider: str
    backend: AgentBackend
    request: AgentRequest
    draft: Draft | None
    record: TurnRecord
    user_items: Sequence[dict[str, Any]]
    user: Message | None
    settings: Mapping[str, Any]
    answers: Decisions | None = None
    given: InitialState = NO_STATE

    @property
    def conversation(self) -> str | None:
        """The id of the conversation that stores the turn; None if there is none."""
        return None if self.draft is None else self.draft.key.id


class RestTurn(TurnPlan[bytes]):
    """Writes the turn in the format of `form`, from the record of the agent's output."""

    api = "chat_rest"

    def __init__(
        self,
        store: Store,
        requester: Requester,
        prepared: PreparedTurn,
        form: TurnForm,
        delivery: Delivery[bytes],
        *,
        log: EventLogWriter | None = None,
    ) -> None:
        super().__init__(
            delivery,
            requester,
            id=prepared.id,
            agent=prepared.agent,
            backend=prepared.backend,
            requests=[prepared.request],
            draft=prepared.draft,
        )
        self._store = store
        self._prepared = prepared
        self.given = prepared.given
        self._form = form
        self._log = log
        # Held back until the agent's first output, so that an early failure can have its own status.
        self._held = form.begin()

    async def before_start(self) -> None:
        """Record the decisions: from now on the agent acts on them."""
        if self._prepared.answers is not None:
            await record_decisions(self._store, self.requester.principal.id, self._prepared.answers)

    def feed(self, taken: Taken) -> bytes:
        """The frames for the agent's output, after those that were held back."""
        record = self._prepared.record
        frames = b"".join([self._form.feed(items, record.feed(items)) for _, items in taken])
        return self.idle() + frames if frames else b""

    def idle(self) -> bytes:
        """The first frames, once: they are held back until the agent's first output."""
        held, self._held = self._held, b""
        return held

    async def ending(self) -> tuple[TurnCommit | None, bytes]:
        """The last frames, or the whole answer; and the data for the conversation and the log."""
        work, log = self._prepared, self._log
        final = work.record.final
        finished = self._finish_turn(final)
        last = self.idle() + self._form.end(finished.turned)
        if work.draft is None and log is None:
            return None, last
        turn = None
        if work.draft is not None:
            said = reply_message(final, frozenset())
            # A client that sends no id finds its conversation again by this hash.
            whole = transcript_hash((*work.draft.request.messages, said))
            turn = ConversationTurn(work.draft.key.id, to_stored_items(finished.items), whole)
        outcome = TurnCommit(
            principal=work.request.principal.id,
            token=work.id if work.draft is None else work.draft.token,
            conversation=turn,
            response=None if log is None else log.response_with_status("completed"),
            events=None if log is None else await log.final_batch(last),
            approvals=finished.approvals,
            states=self.states(),
        )
        return outcome, last

    async def committed(self) -> None:
        """Give the conversation a title, if it has none, now that the turn is stored."""
        await super().committed()
        if self._prepared.draft is not None and self._prepared.user is not None:
            await give_title(self._store, self._prepared.draft, self._prepared.user)

    def _finish_turn(self, final: FinalMessage) -> _FinishedTurn:
        work = self._prepared
        record, identifier, time = work.record, work.conversation or "", iso_time(now())
        usage = usage_of(final.usage)
        about = {
            "createdAt": time,
            "model": work.request.model,
            "provider": work.provider,
            "tokenUsage": {
                "prompt": usage["promptTokens"],
                "completion": usage["completionTokens"],
                "total": usage["totalTokens"],
            },
        }
        reply = record.reply_items(work.agent, about)
        asked = self._approval_records() if record.approvals else ()
        pending = [pending_approval(approval, [work.backend]) for approval in asked]
        # Without a new message from the client, the turn may continue the history's last message.
        before = () if work.draft is None or work.user_items else work.draft.items
        assistant = messages_of(identifier, reply, time)[-1]
        # The reply after a decision belongs to the message that asked, and has that message's id.
        assistant["id"] = message_id(groups_of([*before, *work.user_items, *reply])[-1])
        turned = FinishedTurn(record, work.request.model, work.provider, work.user, assistant, pending, usage)
        return _FinishedTurn(turned, [*work.user_items, *reply], asked)

    def _approval_records(self) -> tuple[Approval, ...]:
        """The approvals to store, with everything needed to call the agent the same way again. Clients never see that part."""
        work = self._prepared
        if work.draft is None:
            return ()
        bound = Binding(work.request.principal.id, work.agent, work.conversation)
        record = work.record
        return approval_records(record.approvals, record.state, work.id, bound, now(), request=work.settings)


@dataclass(frozen=True, slots=True)
class _FinishedTurn:
    """A finished turn: the summary for the client, and the items and approvals to store."""

    turned: FinishedTurn
    items: Sequence[dict[str, Any]]
    approvals: tuple[Approval, ...]
