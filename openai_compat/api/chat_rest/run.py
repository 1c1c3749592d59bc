"""Runs an agent for one turn of the chat REST API, tells what it says, and keeps what it came to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ...agents.error_mapping import not_again
from ...backend import AgentBackend, AgentRequest
from ...errors import AgentError, OpenAICompatError
from ...reducer import size_of
from ...state.approvals import Binding, questions, with_settings
from ...state.conversations import Draft, stored_items, transcript
from ...state.event_log import EventLogWriter
from ...stores.port import Approval, ConversationTurn, Outcome
from ...turns.run import commit
from ...turns.run_group import Job, Turns, Unchanged
from ...turns.slots import SlotRequest
from ...wire.chat_messages import reply_message
from ...wire.chat_rest.forms import Turned, TurnForm
from ...wire.chat_rest.serialize import TurnRecord, groups_of, iso, message_id, messages_of, usage_of
from ...wire.chat_rest.types import Message
from ...wire.json import KEEP_ALIVE
from ..exchange import Exchange
from ..services import Runtime, now
from .lookup import give_title, pending_approval


class Sink(Protocol):
    """Where a turn is told."""

    async def started(self) -> None:
        """The agent is about to run."""
        ...

    async def write(self, frames: bytes) -> None:
        """More frames."""
        ...

    async def keep_alive(self) -> None:
        """Nothing to write for a while."""
        ...

    async def end(self, data: bytes) -> None:
        """The last frames, or the whole answer."""
        ...


@dataclass(frozen=True, slots=True)
class ToClient:
    """Tells the client: in a stream, in which `comment` fills a silence, or in one answer."""

    exchange: Exchange
    stream: bool
    comment: bytes = KEEP_ALIVE

    async def started(self) -> None:
        """From now on nobody may run it again in secret."""
        self.exchange.agent_started = True

    async def write(self, frames: bytes) -> None:
        """More of the stream."""
        if not self.exchange.status:
            await self.exchange.start_stream()
        await self.exchange.write(frames)

    async def keep_alive(self) -> None:
        """A comment."""
        if self.stream:
            await self.write(self.comment)

    async def end(self, data: bytes) -> None:
        """The end of the stream, or all of the answer."""
        if not self.stream:
            await self.exchange.answer(200, data)
            return
        if not self.exchange.status:
            await self.exchange.start_stream()
        await self.exchange.end(data)


@dataclass(frozen=True, slots=True)
class Work:
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
        before: what is to be done just before the agent is started.
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
    before: Callable[[], Awaitable[None]] | None = None

    @property
    def conversation(self) -> str | None:
        """Its conversation's id."""
        return None if self.draft is None else self.draft.key.id


async def run_turn(
    runtime: Runtime,
    exchange: Exchange,
    work: Work,
    form: TurnForm,
    *,
    sink: Sink,
    journal: EventLogWriter | None = None,
) -> None:
    """Run it. What it came to is kept before the last byte is told.

    Raises OpenAICompatError for whatever goes wrong; then nothing is kept.
    """
    job = Job(work.id, work.agent, work.backend, [work.request], Unchanged, work.draft)
    async with runtime.slots.seat(SlotRequest(1, work.agent, work.request.principal.id)) as seat:
        if work.before is not None:
            await work.before()
        await sink.started()
        async with Turns(runtime.deadlines, runtime.running, exchange, job, seat, fold=False) as turns:
            seat.close()  # the slot is free when the agent has ended
            try:
                await _tell(runtime, turns, work.record, form, sink=sink, journal=journal)
                kept = _kept(work)
                last = form.end(kept.turned)
                await _keep(runtime, work, kept, last, journal)
                await sink.end(last if journal is None else journal.number(last))
            except OpenAICompatError as error:
                raise not_again(error) from None


async def _tell(
    runtime: Runtime, turns: Turns, record: TurnRecord, form: TurnForm, *, sink: Sink, journal: EventLogWriter | None
) -> None:
    held, silent_until, size = form.begin(), turns.now() + runtime.deadlines.head, 0
    while not turns.over:
        await turns.wait(silent_until if journal is None else min(silent_until, journal.due))
        items = [item for _, taken in turns.take() for item in taken]
        size += sum(map(size_of, items))
        if size > runtime.limits.answer:
            raise AgentError("The agent's answer is too long.", status=502, code="answer_too_large")
        frames = form.feed(items, record.feed(items))
        late = turns.now() >= silent_until
        if held and (frames or late):
            frames, held = held + frames, b""
        if journal is not None:
            frames = journal.number(frames)
            await journal.flush()
        if frames:
            await sink.write(frames)
        elif late:
            await sink.keep_alive()
        if frames or late:
            silent_until = turns.now() + runtime.deadlines.heartbeat
    if held:
        await sink.write(held if journal is None else journal.number(held))


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a turn came to, as it is told, and what is kept of it."""

    turned: Turned
    items: Sequence[dict[str, Any]]
    asked: tuple[Approval, ...]


def _kept(work: Work) -> _Kept:
    record, identifier, time = work.record, work.conversation or "", iso(now())
    about = {
        "createdAt": time,
        "model": work.request.model,
        "provider": work.provider,
        "tokenUsage": _token_usage(record),
    }
    reply = record.reply_items(work.agent, about)
    asked = _questions(work)
    pending = [pending_approval(approval, [work.backend]) for approval in asked]
    before = () if work.draft is None else work.draft.items
    assistant = messages_of(identifier, reply, time)[-1]
    # What is said after a decision belongs to the message that has asked, and is found by its id.
    assistant["id"] = message_id(groups_of([*before, *work.user_items, *reply])[-1])
    turned = Turned(record, work.request.model, work.provider, work.user, assistant, pending)
    return _Kept(turned, [*work.user_items, *reply], asked)


def _questions(work: Work) -> tuple[Approval, ...]:
    """What the turn asks, with all that is needed to ask the agent the same way again. Clients never see that."""
    if work.draft is None:
        return ()
    bound = Binding(work.request.principal.id, work.agent, work.conversation)
    asked = questions(work.record.approvals, work.record.state, work.id, bound, now())
    return tuple([replace(one, state=with_settings(one.state, work.settings)) for one in asked])


def _token_usage(record: TurnRecord) -> Mapping[str, int]:
    usage = usage_of(record.final.usage)
    return {"prompt": usage["promptTokens"], "completion": usage["completionTokens"], "total": usage["totalTokens"]}


async def _keep(runtime: Runtime, work: Work, kept: _Kept, last: bytes, journal: EventLogWriter | None) -> None:
    """Into the conversation, and into the log of the stream. Raises Conflict if it was taken or deleted meanwhile."""
    ending = None if journal is None else await journal.ending("completed", last)
    response, events = ending or (None, None)
    draft = work.draft
    if draft is None and ending is None:
        return
    turn = None
    if draft is not None:
        said = reply_message(work.record.final, frozenset())
        whole = transcript((*draft.request.messages, said))
        turn = ConversationTurn(draft.key.id, stored_items(kept.items), whole)
    outcome = Outcome(
        principal=work.request.principal.id,
        token=work.id if draft is None else draft.token,
        conversation=turn,
        response=response,
        events=events,
        approvals=kept.asked,
    )
    await commit(runtime.store, outcome)
    if draft is not None:
        draft.committed()
        await give_title(runtime, draft, work.user)
