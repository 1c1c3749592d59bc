"""Runs an agent for one request of the Responses API: its events go to a sink as they are made, its outcome to the store.

    work = await prepare(…)              what to run, with all that was said before; may lock a conversation
    await Responding(runtime, work, sink).run()

`run` is called once. It gives the conversation free, on every path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import anyio

from ..backend import AgentBackend, AgentRequest
from ..conversations import Draft, stored_items
from ..errors import AgentError, Conflict, InvalidRequest, NotFound, OpenAICompatError, Unavailable
from ..eventlog import BATCH, PAUSE, EventLog, joined
from ..events import Finished, FinishReason, Paused, UsageReported
from ..failures import not_again
from ..http import HttpRequest
from ..parsers.context import own_items
from ..parsers.responses import ParsedResponse, check_response_capabilities, with_context
from ..policies.admission import Seat
from ..reducer import Item, Reducer, size_of
from ..runtime import Runtime, logger, new_id, now
from ..serializers.encoding import from_stored_json, stored_json
from ..serializers.responses import ApprovedCall, ResponseForm, ResponseStream
from ..stores.port import Approval, ConversationTurn, Events, Key, Outcome, StoredResponse
from ..structured import OutputFormat, repair
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
        before: what was said before the request's own input.
        rootless: whether only its client's connection knows what it continues, so that the store has to keep that too.
        output_format: what the answer has to look like.
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
    before: Items = ()
    rootless: bool = False
    output_format: OutputFormat | None = None
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
            previous=None if self.rootless else parsed.previous,
            conversation=self.conversation,
            input=stored_items([*(self.before if self.rootless else ()), *parsed.input]),
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
    wanted = parsed.request.response_format
    output_format = None if wanted is None else OutputFormat(wanted, "text.format.schema")
    answers = await find_answers(runtime.store, asker.principal.id, parsed.decisions) if parsed.decisions else None
    draft = await _draft(runtime, asker, parsed, http)
    try:
        parsed, context = await _context(runtime, asker, parsed, draft, nearby or {})
        request = _request(runtime, parsed, context, draft)
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
        before=context,
        rootless=parsed.previous is not None and parsed.previous in (nearby or {}),
        output_format=output_format,
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
        approval_labels=parsed.tools.labels,
        visibility=runtime.response_visibility,
        background=parsed.background,
        new_id=ids,
        now=now,
        include_logprobs=parsed.request.logprobs,
        answers=parsed.generate,
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


async def _context(
    runtime: Runtime, asker: Asker, parsed: ParsedResponse, draft: Draft | None, nearby: Mapping[str, Items]
) -> tuple[ParsedResponse, Items]:
    """What was said before, and the request with the items that it only named."""
    context = draft.items if draft is not None else await _before(runtime, asker, parsed, nearby)
    if not parsed.references:
        return parsed, context
    lookup = await _referenced(runtime, asker, parsed.references)
    own = tuple(own_items(parsed.input, context, lookup).values())
    return replace(parsed, input=own), context


def _request(runtime: Runtime, parsed: ParsedResponse, context: Items, draft: Draft | None) -> AgentRequest:
    """The request with all that was said before."""
    request = with_context(parsed, context)
    if draft is not None:
        request = replace(request, conversation_id=draft.key.id)
    return runtime.messages.apply(request)


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


async def _referenced(runtime: Runtime, asker: Asker, wanted: Sequence[str]) -> Mapping[str, dict[str, Any]]:
    """The stored items of these ids; not all of them need be known."""
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
        self._ended: FinishReason | None = None
        self._held = self._said = b""
        self._sent = work.stream.sequence

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
        try:
            await self._write_all()
        except OpenAICompatError as error:
            await self._failed(not_again(error))
        except Exception as error:
            logger.error("%s: unexpected error", self.work.asker.request_id, exc_info=error)
            await self._failed(OpenAICompatError("The server failed.", code="internal_error", should_retry=False))

    async def _write_all(self) -> None:
        """Write frames as they are made; then store, and only then write the last one."""
        stream = self.work.stream
        self._held = b"" if stream.sequence >= 0 else stream.begin()
        if self._held and self._sink.eager:
            await self._write(b"")
        if not self.work.parsed.generate:
            self._runtime.slots.release(self.work.seat)
            await self._finish()
            return
        wanted, repairs = self.work.output_format, self.work.backend.capabilities.repairs_output
        if wanted is None or not repairs:
            await self._turn(self.work.request, self._say)
        else:
            await self._turn_until_right(wanted)
        if wanted is not None:
            self._check(wanted)
        await self._finish()

    async def _turn_until_right(self, wanted: OutputFormat) -> None:
        """Hold the answer back until it is known to be right, asking once more if it is not."""
        said: list[Item] = []
        await self._turn(self.work.request, said.extend)
        reducer = Reducer()
        reducer.feed(said)
        message = reducer.message()
        problem = wanted.problem(message.text) if message.finish_reason == "stop" and not message.approvals else None
        if problem is None:
            self._say(said)
        else:
            self._say([item for item in said if isinstance(item, UsageReported)])
            await self._turn(repair(self.work.request, message.text, problem), self._say)

    def _check(self, wanted: OutputFormat) -> None:
        """Raise AgentError if the answer is not the JSON that was asked for; one that is cut off need not be."""
        output = self.work.stream.response()["output"]
        texts = [
            part["text"] for item in output if item["type"] == "message" for part in item["content"] if "text" in part
        ]
        if self._ended == "stop" and texts and wanted.problem("".join(texts)) is not None:
            text = "The agent's answer does not have the form that 'text.format' asks for."
            raise AgentError(text, status=502, code="invalid_output")

    async def _turn(self, request: AgentRequest, take: Callable[[list[Item]], None]) -> None:
        """Run the agent once; `take` is given what it says, and what that becomes is written."""
        work = self.work
        job = Job(work.id, work.agent, work.backend, [request], Unchanged, work.draft)
        if not work.taken:  # again
            await self._runtime.slots.take(work.seat)
        turns = Turns(self._runtime, work.asker, job, work.seat, fold=False)
        work.taken = False  # the slot is the turn's now
        async with turns:
            self._turns = turns
            if work.draft is not None:
                work.draft.on_interrupt(self.interrupt)
            if self._stopped is not None:
                turns.interrupt(self._stopped)
            await self._read(turns, take)

    async def _read(self, turns: Turns, take: Callable[[list[Item]], None]) -> None:
        deadlines = self._runtime.deadlines
        silent_until, flush_at = turns.now() + deadlines.head, turns.now() + PAUSE
        while not turns.over:
            await turns.wait(min(silent_until, flush_at if self._unwritten else silent_until))
            for _, items in turns.take():
                take(self._counted(items))
            data, self._said = self._said, b""
            if data or (self._held and turns.now() >= silent_until):
                await self._write(data)
                silent_until = turns.now() + deadlines.heartbeat
            elif turns.now() >= silent_until:
                await self._sink.keep_alive()
                silent_until = turns.now() + deadlines.heartbeat
            if self._unwritten >= BATCH or turns.now() >= flush_at:
                await self._flush()
                flush_at = turns.now() + PAUSE

    def _say(self, items: list[Item]) -> None:
        self._said += self.work.stream.feed(items)

    async def _write(self, frames: bytes) -> None:
        """Write frames, after those that were held back, to the log too."""
        frames, self._held = self._held + frames, b""
        if self.work.log is not None:
            self.work.log.add(frames, self.work.stream.sequence)
        self._sent = self.work.stream.sequence
        await self._sink.write(frames)

    def _counted(self, items: list[Item]) -> list[Item]:
        """The same. Raises AgentError if the agent has said more than a plain answer, or a log, may hold."""
        last = items[-1] if items else None
        if isinstance(last, Paused):
            self._state = last.state
        elif isinstance(last, Finished):
            self._ended = last.reason
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

    async def _finish(self) -> None:
        """Store what was said, then say that it is complete."""
        stream, held, said = self.work.stream, self._held, self._said
        first = self._sent + 1
        frames = held + said + stream.finish()
        try:
            await self._store(Events(first, stream.sequence, frames.decode()), conversation=True)
        except OpenAICompatError:
            stream.take_back()
            self._held, self._said = frames[: frames.rindex(b"event: ")], b""
            raise
        if self.work.log is not None:
            self.work.log.add(frames, stream.sequence)
        await self._sink.end(frames)
        self._publish()

    async def _failed(self, error: OpenAICompatError) -> None:
        """Say what went wrong, to the store first, if it can be told."""
        stream, first = self.work.stream, self._sent + 1
        frames = self._held + self._said + (stream.cancel() if error.code == "cancelled" else stream.fail(error))
        if error.code != "turn_lost":
            await self._store_failure(Events(first, stream.sequence, frames.decode()))
        if self.work.log is not None:
            self.work.log.add(frames, stream.sequence)
        await self._sink.fail(error, frames)
        self._publish()

    async def _abandon(self) -> None:
        """The client has left, and nobody else is to have the response: it was cancelled."""
        if self.work.begun and self.work.stream.status in ("queued", "in_progress"):
            first = self._sent + 1
            frames = self._held + self._said + self.work.stream.cancel()
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
