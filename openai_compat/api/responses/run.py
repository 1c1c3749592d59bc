"""Runs an agent for one request of the Responses API: its events go to a sink as they are made, its outcome to the store.

    work = await prepare(…)              what to run, with all that was said before; may lock a conversation
    seat = await seated(…)               its slot, one for the whole answer
    await Responding(runtime, work, sink, seat).run()

`run` is called once. It gives the conversation and the slot free, on every path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

import anyio

from ...agents.error_mapping import not_again
from ...agents.shortening import shortened
from ...agents.structured_output import OutputFormat, repair
from ...aio.background import let_go
from ...aio.off_loop import off_loop
from ...backend import AgentRequest
from ...errors import AgentError, OpenAICompatError
from ...events import Finished, FinishReason, Paused, UsageReported
from ...http import ClientDisconnected
from ...reducer import Item, Reducer, size_of
from ...state.approvals import decide, questions
from ...state.conversations import stored_items
from ...state.degraded import give_back
from ...stores.port import Approval, ConversationTurn, Events, Outcome
from ...turns.run import commit
from ...turns.run_group import Job, Turns, Unchanged
from ...turns.slots import Seat
from ..exchange import ClientTooSlow
from ..services import Runtime, logger, now
from .prepare import Work

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


class Responding:
    """One response while it is made."""

    def __init__(self, runtime: Runtime, work: Work, sink: Sink, seat: Seat) -> None:
        self.work = work
        self._runtime = runtime
        self._sink = sink
        self._seat = seat
        self._stopped: OpenAICompatError | None = None
        self._turns: Turns | None = None
        self._size = 0
        self._state: Mapping[str, Any] | None = None
        self._ended: FinishReason | None = None
        self._held = self._said = b""
        self._sent = work.stream.sequence

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
            if work.journal is not None or work.draft is not None:  # else the store knows nothing of it yet
                runtime.leases.hold(work.token, self.interrupt)
            runtime.responses[work.key] = self
            if work.journal is not None:
                runtime.logs.live[work.key] = work.journal.log
            await self._decide()
            self._sink.started()
            await self._run_agent()
        except (anyio.get_cancelled_exc_class(), ClientDisconnected, ClientTooSlow):
            await self._abandon()
            raise
        finally:
            runtime.leases.drop(work.token)
            runtime.responses.over(work.key)
            if work.journal is not None:
                work.journal.log.end()
                runtime.logs.live.pop(work.key, None)
            self._seat.close()
            if work.draft is not None:
                await work.draft.close()
            await runtime.slots.settle()

    async def _decide(self) -> None:
        """Make the request's decisions count, now that the agent is about to hear of them."""
        if self.work.answers is not None:
            await decide(self._runtime.store, self.work.asker.principal.id, self.work.answers)

    async def _run_agent(self) -> None:
        try:
            await self._write_all()
        except OpenAICompatError as error:
            await self._failed(not_again(error))
        except (ClientDisconnected, ClientTooSlow):
            raise
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
            await self._finish()
            return
        wanted, repairs = self.work.output_format, self.work.backend.capabilities.repairs_output
        if wanted is None or not repairs:
            await self._fitting_turn(self.work.request)
        else:
            await self._turn_until_right(wanted)
        if wanted is not None:
            await self._check(wanted)
        await self._finish()

    async def _fitting_turn(self, request: AgentRequest) -> None:
        """Run the agent; with `truncation: "auto"`, again without the beginning of what was too long for it."""
        while True:
            try:
                await self._turn(request, self._say)
            except OpenAICompatError as error:
                shorter = shortened(request) if self._may_shorten(error) else None
                if shorter is None:
                    raise
                request = shorter
            else:
                return

    def _may_shorten(self, error: OpenAICompatError) -> bool:
        """Only an agent that has said nothing yet is run again."""
        too_long = error.code == "context_length_exceeded" and self.work.parsed.wire.truncation == "auto"
        return too_long and not self.work.stream.output

    async def _turn_until_right(self, wanted: OutputFormat) -> None:
        """Hold the answer back until it is known to be right, asking once more if it is not."""
        said: list[Item] = []
        await self._turn(self.work.request, said.extend)
        reducer = Reducer()
        reducer.feed(said)
        message = reducer.message()
        complete = message.finish_reason == "stop" and not message.approvals
        problem = await wanted.problem(message.text) if complete else None
        if problem is None:
            self._say(said)
        else:
            self._say([item for item in said if isinstance(item, UsageReported)])
            await self._turn(repair(self.work.request, message.text, problem), self._say)

    async def _check(self, wanted: OutputFormat) -> None:
        """Raise AgentError if the answer is not the JSON that was asked for; one that is cut off need not be."""
        output = self.work.stream.response()["output"]
        texts = [
            part["text"] for item in output if item["type"] == "message" for part in item["content"] if "text" in part
        ]
        if self._ended == "stop" and texts and await wanted.problem("".join(texts)) is not None:
            text = "The agent's answer does not have the form that 'text.format' asks for."
            raise AgentError(text, status=502, code="invalid_output")

    async def _turn(self, request: AgentRequest, take: Callable[[list[Item]], None]) -> None:
        """Run the agent once; `take` is given what it says, and what that becomes is written."""
        work = self.work
        job = Job(
            work.id, work.agent, work.backend, [request], Unchanged, work.draft, background=work.parsed.background
        )
        async with Turns(
            self._runtime.deadlines, self._runtime.running, work.asker, job, self._seat, fold=False
        ) as turns:
            self._turns = turns
            if work.draft is not None:
                work.draft.on_interrupt(self.interrupt)
            if self._stopped is not None:
                turns.interrupt(self._stopped)
            await self._read(turns, take)

    async def _read(self, turns: Turns, take: Callable[[list[Item]], None]) -> None:
        deadlines = self._runtime.deadlines
        silent_until, journal = turns.now() + deadlines.head, self.work.journal
        while not turns.over:
            await turns.wait(silent_until if journal is None else min(silent_until, journal.due))
            for _, items in turns.take():
                take(self._counted(items))
            data, self._said = self._said, b""
            if data or (self._held and turns.now() >= silent_until):
                await self._write(data)
                silent_until = turns.now() + deadlines.heartbeat
            elif turns.now() >= silent_until:
                await self._sink.keep_alive()
                silent_until = turns.now() + deadlines.heartbeat
            if journal is not None:
                await journal.flush()

    def _say(self, items: list[Item]) -> None:
        self._said += self.work.stream.feed(items)

    async def _write(self, frames: bytes) -> None:
        """Write frames, after those that were held back, to the log too."""
        frames, self._held = self._held + frames, b""
        self._log(frames)
        self._sent = self.work.stream.sequence
        await self._sink.write(frames)

    def _counted(self, items: list[Item]) -> list[Item]:
        """The same. Raises AgentError if the agent has said more than a plain answer, or a log, may hold."""
        last = items[-1] if items else None
        if isinstance(last, Paused):
            self._state = last.state
        elif isinstance(last, Finished):
            self._ended = last.reason
        if self.work.journal is not None or not self.work.parsed.stream:
            self._size += sum([size_of(item) for item in items])
            if self._size > self._runtime.limits.answer:
                raise AgentError("The agent's answer is too long.", status=502, code="answer_too_large")
        return items

    def _log(self, frames: bytes) -> None:
        if self.work.journal is not None:
            self.work.journal.add(frames, self.work.stream.sequence)

    async def _finish(self) -> None:
        """Store what was said, then say that it is complete. Whoever hears that may want the slot."""
        self._seat.close()
        stream, held, said = self.work.stream, self._held, self._said
        first = self._sent + 1
        frames = held + said + stream.finish()
        try:
            await self._store(Events(first, stream.sequence, frames.decode()), conversation=True)
        except OpenAICompatError:
            stream.take_back()
            self._held, self._said = frames[: frames.rindex(b"event: ")], b""
            raise
        self._log(frames)
        await self._sink.end(frames)
        self._publish()

    async def _failed(self, error: OpenAICompatError) -> None:
        """Say what went wrong, to the store first, if it can be told."""
        let_go(error)  # at once: the client may leave while it is told
        self._seat.close()
        stream, first = self.work.stream, self._sent + 1
        frames = self._held + self._said + (stream.cancel() if error.code == "cancelled" else stream.fail(error))
        if error.code != "turn_lost":
            last = Events(first, stream.sequence, frames.decode())
            await give_back(lambda: self._store_failure(last), "failure of a response")
        self._log(frames)
        await self._sink.fail(error, frames)
        if error.code != "turn_lost":  # then it is another's, who gives it its outcome
            self._publish()

    async def _abandon(self) -> None:
        """The client has left, and nobody else is to have the response: it was cancelled."""
        if self.work.journal is not None and self.work.stream.status in ("queued", "in_progress"):
            first = self._sent + 1
            frames = self._held + self._said + self.work.stream.cancel()
            last = Events(first, self.work.stream.sequence, frames.decode())
            await give_back(lambda: self._store_failure(last), "response abandoned")
            self._log(frames)
            self._publish()

    async def _store_failure(self, last: Events) -> None:
        try:
            await self._store(last, conversation=False)
        except OpenAICompatError as error:
            logger.warning("%s: the failure could not be stored: %s", self.work.asker.request_id, error.code)

    async def _store(self, last: Events, *, conversation: bool) -> None:
        """Write what the turn leaves behind. Raises Conflict `turn_lost`, and Unavailable."""
        work, stream = self.work, self.work.stream
        turn, many = None, work.parsed.long
        if conversation and work.draft is not None:
            said = [*work.parsed.kept, *stream.response()["output"]]
            turn = ConversationTurn(work.draft.key.id, await off_loop(partial(stored_items, said), long=many))
        keep = work.parsed.store and (work.journal is not None or conversation)
        if turn is None and not keep and not stream.approvals:
            return
        outcome = Outcome(
            principal=work.asker.principal.id,
            token=work.token,
            conversation=turn,
            response=await off_loop(work.stored, long=many) if keep else None,
            events=None if work.journal is None else await work.journal.with_rest(last),
            approvals=self._questions() if conversation else (),
        )
        await commit(self._runtime.store, outcome)
        if work.draft is not None and turn is not None:
            work.draft.committed()

    def _questions(self) -> tuple[Approval, ...]:
        stream = self.work.stream
        return questions(stream.approvals, self._state, self.work.id, self.work.bound, now())

    def _publish(self) -> None:
        if self.work.parsed.background:
            stream = self.work.stream
            self._runtime.webhooks.publish(f"response.{stream.status}", self.work.id, self.work.asker.principal.id)
