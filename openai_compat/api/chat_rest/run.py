"""One turn of the chat REST API: written as its form has it, kept in its conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...agent_request import AgentRequest
from ...backend import AgentBackend
from ...state.agent_state import NO_STATE, GivenState
from ...state.approvals import Binding, Decisions, approval_records, record_decisions
from ...state.conversation_locks import Draft, stored_items, transcript
from ...state.event_log import EventLogWriter
from ...stores.port import Store
from ...stores.records import Approval, ConversationTurn, TurnCommit
from ...turns.plan import Delivery, Requester, Taken, TurnPlan
from ...wire.chat_rest.forms import Turned, TurnForm
from ...wire.chat_rest.serialize import TurnRecord, groups_of, iso, message_id, messages_of, usage_of
from ...wire.chat_rest.types import Message
from ...wire.reducer import FinalMessage
from ...wire.serialize_messages import reply_message
from ..services import now
from .lookup import give_title, pending_approval


@dataclass(frozen=True, slots=True)
class PreparedTurn:
    """A turn that is to be run.

    Attributes:
        id: the turn's.
        agent: the agent's own name; `provider` is whose it is.
        request: what the agent is asked, with all that was said before.
        draft: the conversation that it belongs to.
        record: what it says.
        user_items: what the client has said and the conversation does not know yet, as it will be kept.
        user: the user's message among these, as it is shown.
        settings: what is needed to ask the agent the same way again, once somebody has decided about its calls.
        answers: what is decided about calls that an earlier turn has asked about.
        given: the state of what it continues.
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
    given: GivenState = NO_STATE

    @property
    def conversation(self) -> str | None:
        """The id of the conversation that keeps it; None if none does."""
        return None if self.draft is None else self.draft.key.id


class RestTurn(TurnPlan[bytes]):
    """Writes the turn by `form`, from the record of what the agent says."""

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
        # Held back until the agent says something, so that an early failure has a status of its own.
        self._held = form.begin()

    async def before_start(self) -> None:
        """Record the decisions: from now on the agent knows them."""
        if self._prepared.answers is not None:
            await record_decisions(self._store, self.requester.principal.id, self._prepared.answers)

    def feed(self, taken: Taken) -> bytes:
        """The frames for what the agent says, after those that were held back."""
        record = self._prepared.record
        frames = b"".join([self._form.feed(items, record.feed(items)) for _, items in taken])
        return self.idle() + frames if frames else b""

    def idle(self) -> bytes:
        """The first frames, once: they wait for what the agent says first."""
        held, self._held = self._held, b""
        return held

    async def ending(self) -> tuple[TurnCommit | None, bytes]:
        """The last frames, or the answer; what the conversation and the log keep."""
        work, log = self._prepared, self._log
        final = work.record.final
        kept = self._kept(final)
        last = self.idle() + self._form.end(kept.turned)
        if work.draft is None and log is None:
            return None, last
        turn = None
        if work.draft is not None:
            said = reply_message(final, frozenset())
            # By this a client that sends no id finds its conversation again.
            whole = transcript((*work.draft.request.messages, said))
            turn = ConversationTurn(work.draft.key.id, stored_items(kept.items), whole)
        outcome = TurnCommit(
            principal=work.request.principal.id,
            token=work.id if work.draft is None else work.draft.token,
            conversation=turn,
            response=None if log is None else log.ended("completed"),
            events=None if log is None else await log.rest(last),
            approvals=kept.asked,
            states=self.states(),
        )
        return outcome, last

    async def committed(self) -> None:
        """The turn is kept: its conversation gets a title, if it has none."""
        await super().committed()
        if self._prepared.draft is not None and self._prepared.user is not None:
            await give_title(self._store, self._prepared.draft, self._prepared.user)

    def _kept(self, final: FinalMessage) -> _KeptTurn:
        work = self._prepared
        record, identifier, time = work.record, work.conversation or "", iso(now())
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
        asked = self._questions() if record.approvals else ()
        pending = [pending_approval(approval, [work.backend]) for approval in asked]
        # Without a message of the client's, it is the history's last message that may go on here.
        before = () if work.draft is None or work.user_items else work.draft.items
        assistant = messages_of(identifier, reply, time)[-1]
        # What is said after a decision belongs to the message that has asked, and is found by its id.
        assistant["id"] = message_id(groups_of([*before, *work.user_items, *reply])[-1])
        turned = Turned(record, work.request.model, work.provider, work.user, assistant, pending, usage)
        return _KeptTurn(turned, [*work.user_items, *reply], asked)

    def _questions(self) -> tuple[Approval, ...]:
        """The approvals to store, with all that is needed to ask the agent the same way again. Clients never see that."""
        work = self._prepared
        if work.draft is None:
            return ()
        bound = Binding(work.request.principal.id, work.agent, work.conversation)
        record = work.record
        return approval_records(record.approvals, record.state, work.id, bound, now(), request=work.settings)


@dataclass(frozen=True, slots=True)
class _KeptTurn:
    """A finished turn: the summary for the client, and the items and approvals to store."""

    turned: Turned
    items: Sequence[dict[str, Any]]
    asked: tuple[Approval, ...]
