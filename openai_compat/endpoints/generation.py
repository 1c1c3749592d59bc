"""Runs agents for one request and writes their answer, streamed or plain, in whatever form it is to have."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self

import anyio
import anyio.lowlevel

from ..backend import AgentBackend, AgentRequest, RunContext
from ..errors import AgentError, DeadlineExceeded, InvalidRequest, OpenAICompatError
from ..events import UsageReported
from ..exchange import Exchange
from ..reducer import FinalMessage, Item, Reducer, Usage, size_of
from ..runtime import Runtime, logger
from ..serializers.encoding import KEEP_ALIVE
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
    """

    id: str
    presentation: Callable[[], Presentation]
    stream: Callable[[int], ChoiceStream]
    stream_end: Callable[[Usage], bytes]
    whole: Callable[[Sequence[FinalMessage]], bytes]


async def generate(
    runtime: Runtime, exchange: Exchange, backend: AgentBackend, requests: Sequence[AgentRequest], form: Form
) -> None:
    """Run the agent once for each of `requests`, side by side, and answer with one choice for each.

    Raises OpenAICompatError for what goes wrong before the agent is started; later failures are answered here.
    """
    if len(requests) > runtime.limits.choices:
        text = f"At most {runtime.limits.choices} answers can be asked for at once."
        raise InvalidRequest(text, param="n", code="invalid_value")
    headers = _passed_on(runtime, exchange)
    requests = [replace(request, principal=exchange.principal, headers=headers) for request in requests]
    write = _stream if requests[0].stream else _plain
    turns = Turns(runtime, exchange, backend, requests, form)
    runtime.slots.take(len(requests))
    async with turns:
        try:
            await write(runtime, exchange, turns, form)
        except OpenAICompatError as error:
            await exchange.fail(error)  # at once: stopping the agents may take its time


def _passed_on(runtime: Runtime, exchange: Exchange) -> dict[str, str]:
    if not runtime.agent_headers:
        return {}
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in exchange.request.headers]
    return {name: value for name, value in pairs if name in runtime.agent_headers}


class Turns:
    """The turns of one request, read together. They run inside `async with`: leaving it stops them, all at once."""

    def __init__(
        self,
        runtime: Runtime,
        exchange: Exchange,
        backend: AgentBackend,
        requests: Sequence[AgentRequest],
        form: Form,
    ) -> None:
        self._wake = Wake()
        self._deadline = anyio.current_time() + runtime.deadlines.request
        deadline = time.monotonic() + runtime.deadlines.request
        self.turns = [
            Turn(
                backend,
                request,
                RunContext(form.id if index == 0 else f"{form.id}-{index}", exchange.request_id, deadline, logger),
                wake=self._wake,
                grace=runtime.deadlines.grace,
                released=runtime.slots.release,
            )
            for index, request in enumerate(requests)
        ]
        self._views = [form.presentation() for _ in requests]

    async def __aenter__(self) -> Self:
        for turn in self.turns:
            turn.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        running = [turn for turn in self.turns if turn.running]
        if running:
            with anyio.CancelScope(shield=True):
                async with anyio.create_task_group() as group:
                    for turn in running:
                        group.start_soon(turn.stop)

    @property
    def over(self) -> bool:
        """True when every turn has ended well and all of it was taken."""
        return all([turn.over and turn.error is None for turn in self.turns])

    def take(self) -> list[tuple[int, list[Item]]]:
        """What each turn has to show since the last call. Raises a failure once all that came before it is taken."""
        taken = [(i, self._views[i].show(turn.take())) for i, turn in enumerate(self.turns) if turn.waiting]
        if not taken:
            for turn in self.turns:
                if turn.error is not None:
                    raise turn.error
        return taken

    async def wait(self, until: float = math.inf) -> None:
        """Return when there is something to take, or a failure to raise, or at `until` (the event loop's time).

        Raises DeadlineExceeded when the agents have had their time. Writes are never interrupted by that, so that it
        is always known what the client has got; they have a deadline of their own.
        """
        # On asyncio, anyio does not cancel a task whose event is set already: with a steady agent, that is always.
        await anyio.lowlevel.checkpoint_if_cancelled()
        if not any([turn.waiting or turn.error is not None for turn in self.turns]):
            with anyio.CancelScope(deadline=min(until, self._deadline)):
                await self._wake.wait()
        if anyio.current_time() >= self._deadline and not all([turn.finished for turn in self.turns]):
            raise DeadlineExceeded("The agent took too long and was stopped.", should_retry=False)


async def _stream(runtime: Runtime, exchange: Exchange, turns: Turns, form: Form) -> None:
    """Write what the turns say as they say it: all there is, in one write, each time around."""
    streams = [form.stream(index) for index in range(len(turns.turns))]
    usage, silent_until = Usage(), anyio.current_time() + runtime.deadlines.head
    while not turns.over:
        await turns.wait(silent_until)
        taken = turns.take()
        data = b"".join([streams[index].feed(items) for index, items in taken])
        _count(usage, taken)
        if not data and anyio.current_time() >= silent_until:
            data = KEEP_ALIVE
        if data:
            if not exchange.status:
                await exchange.start_stream()
            await exchange.write(data)
            silent_until = anyio.current_time() + runtime.deadlines.heartbeat
    if not exchange.status:
        await exchange.start_stream()
    await exchange.end(form.stream_end(usage))


def _count(usage: Usage, taken: list[tuple[int, list[Item]]]) -> None:
    for _, items in taken:
        for item in items:
            if isinstance(item, UsageReported):
                usage.add(item)


async def _plain(runtime: Runtime, exchange: Exchange, turns: Turns, form: Form) -> None:
    """Fold what the turns say, then answer with it all."""
    reducers = [Reducer() for _ in turns.turns]
    size = 0
    while not turns.over:
        await turns.wait()
        for index, items in turns.take():
            reducers[index].feed(items)
            size += sum(map(size_of, items))
        if size > runtime.limits.answer:
            raise AgentError("The agent's answer is too long.", status=502, code="answer_too_large")
    await exchange.answer(200, form.whole([reducer.message() for reducer in reducers]))
