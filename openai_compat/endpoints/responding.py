"""Runs an agent for one request of the Responses API: its events go to a sink as they are made, its outcome to the store.

    work = await prepare(…)              what to run, with all that was said before; may lock a conversation
    await Responding(runtime, work, sink).run()

`run` is called once. It gives the conversation free, on every path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import anyio

from ..attachments import attach
from ..backend import AgentBackend, AgentRequest
from ..conversations import Draft, stored_items
from ..errors import AgentError, Conflict, InvalidRequest, NotFound, OpenAICompatError, Unavailable
from ..eventlog import BATCH, PAUSE, EventLog, joined
from ..events import Paused
from ..failures import not_again
from ..http import HttpRequest
from ..parsers.responses import ParsedResponse, check_response_capabilities, with_context
from ..policies.admission import Seat
from ..reducer import Item, size_of
from ..runtime import Runtime, logger, new_id, now
from ..serializers.encoding import from_stored_json, stored_json
from ..serializers.responses import ApprovedCall, ResponseForm, ResponseStream
from ..stores.port import Approval, ConversationTurn, Events, Key, Outcome, StoredResponse
from ..tasks import to_the_end
from .approvals import Answers, decide, find_answers, questions
from .generation import commit
from .ids import ResponseIds, response_of
from .job import Asker, Job, Turns

Items: TypeAlias = Sequence[dict[str, Any]]


class Sink(Protocol):
    """Takes a response's frames: `event: …`, `data: …`, blank line. It is given whole ones only."""

    @property
    def eager(self) -> bool:
        """Whether it wants the first frames at once, and not only when the agent has said something."""
        ...

    def started(self) -> None:
        """The agent is about to run."""
        ...

    async def write(self, frames: bytes) -> None:
        """More frames."""
        ...

    async def keep_alive(self) -> None:
        """Nothing to write for a while."""
        ...

    async def end(self, frames: bytes) -> None:
        """The last frames, after what they say has been stored."""
        ...

    async def fail(self, error: OpenAICompatError, frames: bytes) -> None:
        """The last frames of a response that failed."""
        ...


@dataclass(slots=True, kw_only=True)
class Work:
    """One response that is to be made.

    Attributes:
        token: what holds everything of this turn in the store.
        answers: decisions that the request brings.
        log: where its frames are kept for those who follow it, None if nobody can.
        begun: whether the store knows of it already.
        taken: whether it has its slot already.
    """

    id: str
    asker: Asker
    parsed: ParsedResponse
    agent: str
    backend: AgentBackend
    request: AgentRequest
    stream: ResponseStream
    token: str
    draft: Draft | None = None
    answers: Answers | None = None
    log: EventLog | None = None
    begun: bool = False
    taken: bool = False

    @property
    def key(self) -> Key:
        """Whose response it is, and its id."""
        return Key(self.asker.principal.id, self.id)

    @property
    def seat(self) -> Seat:
        """What it counts for."""
        return Seat(1, self.agent, self.asker.principal.id)

    def stored(self) -> StoredResponse:
        """The response as it stands, to be stored."""
        parsed, stream = self.parsed, self.stream
        response = stream.response()
        return StoredResponse(
            id=self.id,
            created=response["created_at"],
            status=stream.status,
            body=stored_json(response),
            background=parsed.background,
            previous=parsed.previous,
            conversation=self.conversation,
            input=stored_items(parsed.input),
            output=stored_items(response["output"]),
        )

    @property
    def conversation(self) -> str | None:
        """The conversation that it belongs to."""
        return None if self.draft is None else self.draft.key.id


async def prepare(
    runtime: Runtime,
    asker: Asker,
    parsed: ParsedResponse,
    ids: ResponseIds,
    http: HttpRequest,
    nearby: Mapping[str, Items] | None = None,
) -> Work:
    """What is to be run for a request. Raises OpenAICompatError, and then holds nothing.

    `nearby` are responses that only this client's connection knows: all that was said up to each of them, by its id.
    """
    agent, backend = runtime.agent(parsed.request.model, asker.principal)
    check_response_capabilities(parsed, backend.capabilities)
    answers = await find_answers(runtime.store, asker.principal.id, parsed.decisions) if parsed.decisions else None
    draft = await _draft(runtime, asker, parsed, http)
    try:
        request = await _request(runtime, asker, parsed, draft, nearby or {})
    except BaseException:
        if draft is not None:
            await draft.close()
        raise
    if answers is not None:
        request = replace(request, resume=answers.resume(request.resume))
    return Work(
        id=ids.response,
        asker=asker,
        parsed=parsed,
        agent=agent,
        backend=backend,
        request=request,
        stream=ResponseStream(_form(runtime, agent, parsed, ids, draft, answers)),
        token=new_id("turn_") if draft is None else draft.token,
        draft=draft,
        answers=answers,
    )


def _form(
    runtime: Runtime,
    agent: str,
    parsed: ParsedResponse,
    ids: ResponseIds,
    draft: Draft | None,
    answers: Answers | None,
) -> ResponseForm:
    approvals = answers.approvals if answers is not None else {}
    return ResponseForm(
        id=ids.response,
        created=now(),
        agent=agent,
        echo=parsed.echo if draft is None else {**parsed.echo, "conversation": {"id": draft.key.id}},
        custom_tools=parsed.custom_tools,
        approval_labels=parsed.mcp_labels,
        visibility=runtime.response_visibility,
        background=parsed.background,
        new_id=ids,
        now=now,
        include_logprobs=parsed.request.logprobs,
        approved={a.call_id: ApprovedCall(a.id, a.tool, a.arguments) for a in approvals.values()},
    )


async def _draft(runtime: Runtime, asker: Asker, parsed: ParsedResponse, http: HttpRequest) -> Draft | None:
    """The conversation that the request names in its body, or, where the server keeps those, in a header."""
    principal, identifier = asker.principal.id, parsed.conversation
    if identifier is not None:
        if await runtime.store.read(Key(principal, identifier), items=False) is None:
            raise NotFound(
                f"Conversation with id '{identifier[:64]}' not found.",
                code="conversation_not_found",
                param="conversation",
            )
        return await runtime.turn_locks.lock(Key(principal, identifier))
    if runtime.conversations is None or parsed.previous is not None:
        return None
    identifier = runtime.conversations.identify(http, parsed.body)
    return None if identifier is None else await runtime.turn_locks.lock(Key(principal, identifier))


async def _request(
    runtime: Runtime, asker: Asker, parsed: ParsedResponse, draft: Draft | None, nearby: Mapping[str, Items]
) -> AgentRequest:
    """The request with all that was said before, and with the decisions it brings."""
    context = draft.items if draft is not None else await _before(runtime, asker, parsed, nearby)
    lookup = await _referenced(runtime, asker, parsed)
    request = with_context(parsed, context, lookup)
    if draft is not None:
        request = replace(request, conversation_id=draft.key.id)
    request = runtime.messages.apply(request)
    return await attach(request, runtime.store)


async def _before(runtime: Runtime, asker: Asker, parsed: ParsedResponse, nearby: Mapping[str, Items]) -> Items:
    """Everything up to the response that this one continues. Its instructions are not carried over."""
    if parsed.previous is None:
        return ()
    if parsed.previous in nearby:
        return nearby[parsed.previous]
    chain = await runtime.store.chain(Key(asker.principal.id, parsed.previous))
    if chain is None:
        raise InvalidRequest(
            f"Previous response with id '{parsed.previous[:64]}' not found.",
            code="previous_response_not_found",
            param="previous_response_id",
        )
    return [from_stored_json(item.body) for item in chain]


async def _referenced(runtime: Runtime, asker: Asker, parsed: ParsedResponse) -> Mapping[str, dict[str, Any]]:
    """The stored items that the input only names."""
    wanted = [item["id"] for item in parsed.input if item.get("type") == "item_reference"]
    found: dict[str, dict[str, Any]] = {}
    for origin in {response_of(identifier) for identifier in wanted}:
        response = await runtime.store.response(Key(asker.principal.id, origin))
        for item in (*response.input, *response.output) if response is not None else ():
            found[item.id] = from_stored_json(item.body)
    return found


class Unchanged:
    """The view of a turn that shows everything: the Responses API has a place for each event."""

    def show(self, items: list[Item]) -> list[Item]:
        """All of them."""
        return items


class Responding:
    """One response while it is made."""

    def __init__(self, runtime: Runtime, work: Work, sink: Sink) -> None:
        self.work = work
        self._runtime = runtime
        self._sink = sink
        self._stopped: OpenAICompatError | None = None
        self._turns: Turns | None = None
        self._size = 0
        self._state: Mapping[str, Any] | None = None

    @property
    def log(self) -> EventLog | None:
        """The frames so far, and as they come."""
        return self.work.log

    def snapshot(self) -> dict[str, Any]:
        """The Response object as it stands."""
        return self.work.stream.response()

    def interrupt(self, error: OpenAICompatError) -> None:
        """End it with `error`; with `cancelled`, the response is one that was cancelled."""
        self._stopped = error
        if self._turns is not None:
            self._turns.interrupt(error)

    async def run(self) -> None:
        """Run the agent, write what it says, store what became of it.

        Raises OpenAICompatError for what goes wrong before the agent is started; later, the sink is told.
        """
        work, runtime = self.work, self._runtime
        try:
            if not work.taken:
                await runtime.slots.take(work.seat)
                work.taken = True
            runtime.leases.hold(work.token, self.interrupt)
            runtime.responses[work.key] = self
            await self._decide()
            self._sink.started()
            await self._run_agent()
        except anyio.get_cancelled_exc_class():
            await self._abandon()
            raise
        finally:
            runtime.leases.drop(work.token)
            runtime.responses.over(work.key)
            if work.log is not None:
                work.log.end()
            if work.draft is not None:
                await work.draft.close()

    async def _decide(self) -> None:
        """Make the request's decisions count, now that the agent is about to hear of them."""
        if self.work.answers is not None:
            try:
                await decide(self._runtime.store, self.work.asker.principal.id, self.work.answers)
            except BaseException:
                self._runtime.slots.release(self.work.seat)
                raise

    async def _run_agent(self) -> None:
        work = self.work
        job = Job(work.id, work.agent, work.backend, [work.request], Unchanged, work.draft)
        turns = Turns(self._runtime, work.asker, job, work.seat, fold=False)
        async with turns:
            self._turns = turns
            if work.draft is not None:
                work.draft.on_interrupt(self.interrupt)
            if self._stopped is not None:
                turns.interrupt(self._stopped)
            try:
                await self._write_all(turns)
            except OpenAICompatError as error:
                await self._failed(not_again(error))
            except Exception as error:
                logger.error("%s: unexpected error", work.asker.request_id, exc_info=error)
                await self._failed(OpenAICompatError("The server failed.", code="internal_error", should_retry=False))

    async def _write_all(self, turns: Turns) -> None:
        """Write frames as they are made; then store, and only then write the last one."""
        stream, sink, deadlines = self.work.stream, self._sink, self._runtime.deadlines
        held = b"" if stream.sequence >= 0 else stream.begin()
        if held and sink.eager:
            held = await self._write(held)
        silent_until, flush_at = turns.now() + deadlines.head, turns.now() + PAUSE
        while not turns.over:
            await turns.wait(min(silent_until, flush_at if self._unwritten else silent_until))
            data = b"".join([stream.feed(self._counted(items)) for _, items in turns.take()])
            if data or (held and turns.now() >= silent_until):
                held = await self._write(held + data)
                silent_until = turns.now() + deadlines.heartbeat
            elif turns.now() >= silent_until:
                await sink.keep_alive()
                silent_until = turns.now() + deadlines.heartbeat
            if self._unwritten >= BATCH or turns.now() >= flush_at:
                await self._flush()
                flush_at = turns.now() + PAUSE
        await self._finish(held)

    async def _write(self, frames: bytes) -> bytes:
        """Write frames, to the log too; returns what is held back then: nothing."""
        if self.work.log is not None:
            self.work.log.add(frames, self.work.stream.sequence)
        await self._sink.write(frames)
        return b""

    def _counted(self, items: list[Item]) -> list[Item]:
        """The same. Raises AgentError if the agent has said more than a plain answer, or a log, may hold."""
        if items and isinstance(items[-1], Paused):
            self._state = items[-1].state
        if self._sink.eager or self.work.log is not None or not self.work.parsed.stream:
            self._size += sum([size_of(item) for item in items])
            if self._size > self._runtime.limits.answer:
                raise AgentError("The agent's answer is too long.", status=502, code="answer_too_large")
        return items

    @property
    def _unwritten(self) -> int:
        return self.work.log.unwritten if self.work.log is not None and self.work.begun else 0

    async def _flush(self) -> None:
        """Copy the log to the store. While that cannot be reached, the agent goes on: the lease may still be ours."""
        work = self.work
        batch = work.log.batch() if work.log is not None and work.begun else None
        if batch is None or work.log is None:
            return
        try:
            held = await self._runtime.store.append(work.key, work.token, batch)
        except Unavailable as error:
            logger.warning("%s: the event log could not be written: %s", work.asker.request_id, error.code)
            return
        if not held:
            raise Conflict("Another process has taken this response.", code="turn_lost", should_retry=False)
        work.log.written(batch)

    async def _finish(self, held: bytes) -> None:
        """Store what was said, then say that it is complete."""
        stream = self.work.stream
        first = 0 if held else stream.sequence + 1
        frames = held + stream.finish()
        try:
            await self._store(Events(first, stream.sequence, frames.decode()), conversation=True)
        except OpenAICompatError:
            stream.take_back()
            await self._write(frames[: frames.rindex(b"event: ")])
            raise
        if self.work.log is not None:
            self.work.log.add(frames, stream.sequence)
        await self._sink.end(frames)
        self._publish()

    async def _failed(self, error: OpenAICompatError) -> None:
        """Say what went wrong, to the store first, if it can be told."""
        stream, first = self.work.stream, self.work.stream.sequence + 1
        frames = stream.cancel() if error.code == "cancelled" else stream.fail(error)
        if error.code != "turn_lost":
            await self._store_failure(Events(first, stream.sequence, frames.decode()))
        if self.work.log is not None:
            self.work.log.add(frames, stream.sequence)
        await self._sink.fail(error, frames)
        self._publish()

    async def _abandon(self) -> None:
        """The client has left, and nobody else is to have the response: it was cancelled."""
        if self.work.begun and self.work.stream.status in ("queued", "in_progress"):
            first = self.work.stream.sequence + 1
            frames = self.work.stream.cancel()
            last = Events(first, self.work.stream.sequence, frames.decode())
            await to_the_end(lambda: self._store_failure(last), "response abandoned")
            if self.work.log is not None:
                self.work.log.add(frames, self.work.stream.sequence)
            self._publish()

    async def _store_failure(self, last: Events) -> None:
        try:
            await self._store(last, conversation=False)
        except OpenAICompatError as error:
            logger.warning("%s: the failure could not be stored: %s", self.work.asker.request_id, error.code)

    async def _store(self, last: Events, *, conversation: bool) -> None:
        """Write what the turn leaves behind. Raises Conflict `turn_lost`, and Unavailable."""
        work, stream = self.work, self.work.stream
        turn = None
        if conversation and work.draft is not None:
            turn = ConversationTurn(
                work.draft.key.id, (*stored_items(work.parsed.input), *stored_items(stream.response()["output"]))
            )
        keep = work.parsed.store and (work.begun or conversation)
        if turn is None and not keep and not stream.approvals:
            return
        waiting = work.log.batch() if work.log is not None else None
        events = last if waiting is None else joined([waiting, last])
        outcome = Outcome(
            principal=work.asker.principal.id,
            token=work.token,
            conversation=turn,
            response=work.stored() if keep else None,
            events=events if work.begun else None,
            approvals=self._questions() if conversation else (),
        )
        await commit(self._runtime, outcome)

    def _questions(self) -> tuple[Approval, ...]:
        stream = self.work.stream
        return questions(stream.approvals, self._state, self.work.id, self.work.conversation, now())

    def _publish(self) -> None:
        if self.work.parsed.background:
            stream = self.work.stream
            self._runtime.webhooks.publish(f"response.{stream.status}", self.work.id, self.work.asker.principal.id)
