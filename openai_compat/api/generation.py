"""Runs agents for one request and writes their answer, streamed or plain, in whatever form it is to have."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..agents.error_mapping import not_again
from ..aio.off_loop import off_loop
from ..errors import AgentError, InvalidRequest, OpenAICompatError
from ..events import Finished, UsageReported
from ..reducer import Item, Reducer, Usage, size_of
from ..state.event_log import Ending, EventLogWriter
from ..stores.port import Outcome
from ..turns.run import commit
from ..turns.run_group import ChoiceStream, Form, Job, Turns
from ..turns.slots import SlotRequest
from ..wire.json import KEEP_ALIVE, KEEP_ALIVE_BESIDE_IDS
from .exchange import Exchange
from .services import Runtime


async def generate(
    runtime: Runtime, exchange: Exchange, job: Job, form: Form, *, journal: EventLogWriter | None = None
) -> None:
    """Run the job and answer. With a journal, the stream can be taken up again by a client that has lost it.

    Raises OpenAICompatError for what goes wrong before the agent is started. Later failures are answered here, but for
    those of a turn in a conversation: once they are known, the client may ask again, so it must be free by then.
    """
    number = len(job.requests)
    if number > runtime.limits.choices:
        text = f"At most {runtime.limits.choices} answers can be asked for at once."
        raise InvalidRequest(text, param="n", code="invalid_value")
    stream = job.requests[0].stream
    async with runtime.slots.seat(SlotRequest(number, job.agent, exchange.principal.id)) as seat:
        if job.before is not None:
            await job.before()
        exchange.agent_started = True
        async with Turns(
            runtime.deadlines, runtime.running, exchange, job, seat, fold=form.keep is not None or not stream
        ) as turns:
            seat.close()  # each slot is free when its agent has ended
            try:
                if stream:
                    await _stream(runtime, exchange, turns, form, journal)
                else:
                    await _plain(runtime, exchange, turns, form)
            except OpenAICompatError as error:
                not_again(error)
                if job.draft is not None or journal is not None:
                    raise
                await exchange.fail(error)  # at once: stopping the agents may take its time


async def _stream(
    runtime: Runtime, exchange: Exchange, turns: Turns, form: Form, journal: EventLogWriter | None
) -> None:
    """Write what the turns say as they say it: all there is, in one write, each time around."""
    streams = [form.stream(index) for index in range(len(turns.turns))]
    usage, silent_until = Usage(), turns.now() + runtime.deadlines.head
    while not turns.over:
        await turns.wait(silent_until if journal is None else min(silent_until, journal.due))
        taken = turns.take()
        data = b"".join([_written(streams, index, items) for index, items in taken])
        _count(usage, taken)
        if journal is not None:
            data = journal.number(data)
            await journal.flush()
        if not data and turns.now() >= silent_until:
            data = KEEP_ALIVE if journal is None else KEEP_ALIVE_BESIDE_IDS
        if data:
            if not exchange.status:
                await exchange.start_stream()
            await exchange.write(data)
            silent_until = turns.now() + runtime.deadlines.heartbeat
    end = form.stream_end(usage)
    await _commit(runtime, exchange, turns, form, None if journal is None else await journal.ending("completed", end))
    if not exchange.status:
        await exchange.start_stream()
    await exchange.end(end if journal is None else journal.number(end))


def _written(streams: Sequence[ChoiceStream], index: int, items: list[Item]) -> bytes:
    """The bytes for what one choice says. The choices before it begin first: accumulators know them by their order."""
    data = streams[index].feed(items)
    return b"".join([stream.begin() for stream in streams[:index]]) + data if data else b""


def _count(usage: Usage, taken: list[tuple[int, list[Item]]]) -> None:
    for _, items in taken:
        for item in items:
            if isinstance(item, UsageReported):
                usage.add(item)


async def _plain(runtime: Runtime, exchange: Exchange, turns: Turns, form: Form) -> None:
    """Fold what the turns say, then answer with it all."""
    size = 0
    while not turns.over:
        await turns.wait()
        size += sum([size_of(item) for _, items in turns.take() for item in items])
        if size > runtime.limits.answer:
            raise AgentError("The agent's answer is too long.", status=502, code="answer_too_large")
    await _commit(runtime, exchange, turns, form)
    await exchange.answer(200, form.whole(turns.messages))


async def _commit(runtime: Runtime, exchange: Exchange, turns: Turns, form: Form, ending: Ending | None = None) -> None:
    """Make what was said last: into the conversation, and into the store. Comes before the last byte.

    Raises Conflict if the conversation was deleted or taken meanwhile.
    """
    draft, said = turns.job.draft, turns.said
    approvals = turns.job.questions() if turns.job.questions is not None else ()
    if draft is None and form.keep is None and ending is None and not approvals:
        return
    turn = None
    if draft is not None and said is not None:
        turn = await off_loop(partial(draft.turn, said), long=draft.long)
    response, events = ending or (None, None)
    outcome = Outcome(
        principal=exchange.principal.id,
        token=turns.job.id if draft is None else draft.token,
        response=response,
        events=events,
        approvals=approvals,
        conversation=turn,
        completion=None if form.keep is None else form.keep(form.whole(turns.messages)),
    )
    await commit(runtime.store, outcome)
    if draft is not None and turn is not None:
        draft.committed()


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
