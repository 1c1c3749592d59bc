"""Runs agents for one request and writes their answer, streamed or plain, in whatever form it is to have."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Protocol

import anyio
import anyio.lowlevel

from ..backend import AgentBackend, AgentRequest, RunContext
from ..errors import AgentError, DeadlineExceeded, InvalidRequest, OpenAICompatError
from ..events import UsageReported
from ..exchange import Exchange
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

    Raises OpenAICompatError for whatever goes wrong before the head is sent; later failures go into the stream.
    """
    if len(requests) > runtime.limits.choices:
        text = f"At most {runtime.limits.choices} answers can be asked for at once."
        raise InvalidRequest(text, param="n", code="invalid_value")
    headers = _passed_on(runtime, exchange)
    requests = [replace(request, principal=exchange.principal, headers=headers) for request in requests]
    runtime.slots.take(len(requests))
    async with AsyncExitStack() as stack:
        turns = Turns(runtime, exchange, backend, requests, form)
        for turn in turns.turns:
            await stack.enter_async_context(turn)
        write = _stream if requests[0].stream else _plain
        with anyio.move_on_after(runtime.deadlines.request) as scope:
            await write(runtime, exchange, turns, form)
        if scope.cancelled_caught:
            await _fail(exchange, DeadlineExceeded("The agent took too long and was stopped.", should_retry=False))


def _passed_on(runtime: Runtime, exchange: Exchange) -> dict[str, str]:
    if not runtime.agent_headers:
        return {}
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in exchange.request.headers]
    return {name: value for name, value in pairs if name in runtime.agent_headers}


class Turns:
    """The turns of one request, read together."""

    def __init__(
        self,
        runtime: Runtime,
        exchange: Exchange,
        backend: AgentBackend,
        requests: Sequence[AgentRequest],
        form: Form,
    ) -> None:
        self._wake = Wake()
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

    async def wait(self) -> None:
        """Return when there is something to take, or a failure to raise."""
        # On asyncio, anyio does not cancel a task whose event is set already: with a steady agent, that is always.
        await anyio.lowlevel.checkpoint_if_cancelled()
        if not any([turn.waiting or turn.error is not None for turn in self.turns]):
            await self._wake.wait()


async def _stream(runtime: Runtime, exchange: Exchange, turns: Turns, form: Form) -> None:
    """Write what the turns say as they say it: all there is, in one write, each time around."""
    streams = [form.stream(index) for index in range(len(turns.turns))]
    usage, patience = Usage(), runtime.deadlines.head
    try:
        while not turns.over:
            with anyio.move_on_after(patience) as silence:
                await turns.wait()
            taken = turns.take()
            data = b"".join([streams[index].feed(items) for index, items in taken])
            _count(usage, taken)
            if not data and silence.cancelled_caught:
                data = KEEP_ALIVE
            if data:
                if not exchange.status:
                    await exchange.start_stream()
                    patience = runtime.deadlines.heartbeat
                await exchange.write(data)
        if not exchange.status:
            await exchange.start_stream()
        await exchange.end(form.stream_end(usage))
    except OpenAICompatError as error:
        await _fail(exchange, error)


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
