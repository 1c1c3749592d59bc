"""Runs agents for one request and writes their answer, streamed or plain, in whatever form it is to have."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Protocol

import anyio
import anyio.lowlevel

from ..backend import AgentBackend, AgentRequest, RunContext
from ..conversations import Draft
from ..errors import AgentError, DeadlineExceeded, InvalidRequest, OpenAICompatError
from ..events import Finished, UsageReported
from ..exchange import Exchange
from ..policies.admission import Seat
from ..reducer import FinalMessage, Item, Reducer, Usage, size_of
from ..runtime import Runtime, logger
from ..serializers.encoding import KEEP_ALIVE
from ..serializers.errors import error_frame
from ..serializers.presentation import Presentation
from ..turns import Turn, Wake


class ChoiceStream(Protocol):
    """One choice of a streamed answer."""

    def feed(self, items: list[Item]) -> bytes:
        """The bytes for these items."""
        ...


@dataclass(frozen=True, slots=True)
class Form:
    """How one API writes an answer.

    Attributes:
        id: the answer's id.
        presentation: makes the view of one turn.
        stream: makes the writer of one choice, by its index.
        stream_end: what follows the last choice.
        whole: the plain answer.
        keep: takes the plain answer to be stored, None if it is not wanted.
    """

    id: str
    presentation: Callable[[], Presentation]
    stream: Callable[[int], ChoiceStream]
    stream_end: Callable[[Usage], bytes]
    whole: Callable[[Sequence[FinalMessage]], bytes]
    keep: Callable[[bytes], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be run: one agent, for one request or several side by side, each of them one choice.

    `draft` is the conversation that the only request belongs to.
    """

    agent: str
    backend: AgentBackend
    requests: Sequence[AgentRequest]
    form: Form
    draft: Draft | None = None


async def generate(runtime: Runtime, exchange: Exchange, job: Job) -> None:
    """Run the job and answer.

    Raises OpenAICompatError for whatever goes wrong before the head is sent; later failures go into the stream.
    """
    number = len(job.requests)
    if number > runtime.limits.choices:
        text = f"At most {runtime.limits.choices} answers can be asked for at once."
        raise InvalidRequest(text, param="n", code="invalid_value")
    seat = Seat(number, job.agent, exchange.principal.id)
    await runtime.slots.take(seat)
    async with AsyncExitStack() as stack:
        turns = Turns(runtime, exchange, job, seat)
        for turn in turns.turns:
            await stack.enter_async_context(turn)
        exchange.agent_started = True
        runtime.running.add(turns)
        stack.callback(runtime.running.discard, turns)
        if job.draft is not None:
            job.draft.on_interrupt(turns.interrupt)
        write = _stream if job.requests[0].stream else _plain
        with anyio.move_on_after(runtime.deadlines.request) as scope:
            await write(runtime, exchange, turns)
        if scope.cancelled_caught:
            await _fail(exchange, _too_long("The agent took too long and was stopped."))


class Turns:
    """The turns of one job, read together."""

    def __init__(self, runtime: Runtime, exchange: Exchange, job: Job, seat: Seat) -> None:
        self.job = job
        self._wake = Wake()
        self._interrupted: OpenAICompatError | None = None
        deadline = time.monotonic() + runtime.deadlines.request
        headers = _passed_on(runtime, exchange)
        self.turns = [
            Turn(
                job.backend,
                replace(request, principal=exchange.principal, headers=headers),
                RunContext(_turn_id(job.form.id, index), exchange.request_id, deadline, logger),
                wake=self._wake,
                grace=runtime.deadlines.grace,
                released=lambda: runtime.slots.release(seat),
            )
            for index, request in enumerate(job.requests)
        ]
        self._views = [job.form.presentation() for _ in job.requests]
        kept = job.form.keep is not None or not job.requests[0].stream
        self._shown = [Reducer() for _ in job.requests] if kept else []
        self._said = Reducer() if job.draft is not None else None
        self._said_view = Presentation("hidden")

    @property
    def over(self) -> bool:
        """True when every turn has ended well and all of it was taken."""
        return self._interrupted is None and all([turn.over and turn.error is None for turn in self.turns])

    def interrupt(self, error: OpenAICompatError) -> None:
        """End all turns with `error`, as if the agent had raised it."""
        self._interrupted = error
        self._wake.set()

    def take(self) -> list[tuple[int, list[Item]]]:
        """What each turn has to show since the last call. Raises a failure once all that came before it is taken."""
        if self._interrupted is not None:
            raise self._interrupted
        taken: list[tuple[int, list[Item]]] = []
        for index, turn in enumerate(self.turns):
            if turn.waiting:
                taken.append((index, self._show(index, turn.take())))
        if not taken:
            for turn in self.turns:
                if turn.error is not None:
                    raise turn.error
        return taken

    def _show(self, index: int, items: list[Item]) -> list[Item]:
        if self._said is not None:
            self._said.feed(self._said_view.show(items))
        items = self._views[index].show(items)
        if self._shown:
            self._shown[index].feed(items)
        return items

    async def wait(self, patience: float) -> bool:
        """Return when there is something to take, or after `patience` seconds; True if there was silence."""
        # On asyncio, anyio does not cancel a task whose event is set already: with a steady agent, that is always.
        await anyio.lowlevel.checkpoint_if_cancelled()
        if self._interrupted is not None or any([turn.waiting or turn.error is not None for turn in self.turns]):
            return False
        with anyio.move_on_after(patience) as silence:
            await self._wake.wait()
        return silence.cancelled_caught

    @property
    def messages(self) -> list[FinalMessage]:
        """What each turn has shown, folded; kept for plain and stored answers only."""
        return [reducer.message() for reducer in self._shown]

    async def commit(self) -> None:
        """Make what was said last: into the conversation, and into the store. Comes before the last byte."""
        if self.job.draft is not None and self._said is not None:
            await self.job.draft.commit(self._said.message())
        if self.job.form.keep is not None:
            await self.job.form.keep(self.job.form.whole(self.messages))


def _turn_id(answer: str, index: int) -> str:
    return answer if index == 0 else f"{answer}-{index}"


def _passed_on(runtime: Runtime, exchange: Exchange) -> dict[str, str]:
    if not runtime.agent_headers:
        return {}
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in exchange.request.headers]
    return {name: value for name, value in pairs if name in runtime.agent_headers}


def _too_long(text: str, code: str = "timeout") -> DeadlineExceeded:
    return DeadlineExceeded(text, code=code, should_retry=False)


async def _stream(runtime: Runtime, exchange: Exchange, turns: Turns) -> None:
    """Write what the turns say as they say it: all there is, in one write, each time around."""
    form = turns.job.form
    streams = [form.stream(index) for index in range(len(turns.turns))]
    usage, quiet = Usage(), Silence(runtime)
    try:
        while not turns.over:
            silent = await turns.wait(quiet.patience(begun=bool(exchange.status)))
            taken = turns.take()
            quiet.heard(bool(taken))
            data = b"".join([streams[index].feed(items) for index, items in taken])
            _count(usage, taken)
            if not data and silent:
                data = KEEP_ALIVE
            if data:
                if not exchange.status:
                    await exchange.start_stream()
                await exchange.write(data)
        await turns.commit()
        if not exchange.status:
            await exchange.start_stream()
        await exchange.end(form.stream_end(usage))
    except OpenAICompatError as error:
        await _fail(exchange, error)


class Silence:
    """How long an agent has said nothing, and how long it still may."""

    def __init__(self, runtime: Runtime) -> None:
        self._deadlines = runtime.deadlines
        self._since = time.monotonic()
        self._limit = runtime.deadlines.first_event

    def heard(self, something: bool) -> None:
        """Note whether the agent has said something since the last call. Raises DeadlineExceeded for long silence."""
        if something:
            self._since, self._limit = time.monotonic(), self._deadlines.idle
        elif self._limit is not None and time.monotonic() - self._since >= self._limit:
            raise _too_long("The agent was silent for too long and was stopped.", "agent_silent")

    def patience(self, *, begun: bool) -> float:
        """Seconds to wait before something has to be done about the silence."""
        beat = self._deadlines.heartbeat if begun else self._deadlines.head
        if self._limit is None:
            return beat
        return min(beat, max(0.0, self._since + self._limit - time.monotonic()))


def _count(usage: Usage, taken: list[tuple[int, list[Item]]]) -> None:
    for _, items in taken:
        for item in items:
            if isinstance(item, UsageReported):
                usage.add(item)


async def _fail(exchange: Exchange, error: OpenAICompatError) -> None:
    """Answer with the error, or, once a stream has begun, end it with one: no finish_reason, no end mark."""
    if not exchange.status:
        raise error
    exchange.note = error.code or error.type
    await exchange.end(error_frame(error))


async def _plain(runtime: Runtime, exchange: Exchange, turns: Turns) -> None:
    """Fold what the turns say, then answer with it all."""
    size, quiet = 0, Silence(runtime)
    while not turns.over:
        await turns.wait(quiet.patience(begun=False))
        taken = turns.take()
        quiet.heard(bool(taken))
        size += sum([size_of(item) for _, items in taken for item in items])
        if size > runtime.limits.answer:
            raise AgentError("The agent's answer is too long.", status=502, code="answer_too_large")
    await turns.commit()
    await exchange.answer(200, turns.job.form.whole(turns.messages))


async def say(exchange: Exchange, form: Form, text: str, *, stream: bool) -> None:
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
