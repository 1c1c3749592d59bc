"""One request's work: the agents that are run for it, read together, and how their answer is to be written."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import anyio
import anyio.lowlevel

from ..aio.timers import clock, new_signal
from ..backend import AgentBackend, AgentRequest, Principal, RunContext
from ..errors import DeadlineExceeded, OpenAICompatError
from ..policies.limits import Deadlines
from ..reducer import FinalMessage, Item, Reducer, Usage
from ..state.conversations import Draft
from ..stores.port import Approval, StoredCompletion
from ..wire.presentation import Presentation
from .slots import Seat
from .turn import Turn

logger = logging.getLogger("openai_compat")

CANCELLABLE_EVERY = 16
"""On asyncio, anyio does not cancel a task whose future is done already, which with a steady agent it always is. So a
reader looks by itself whether it was cancelled, every so many waits."""


class View(Protocol):
    """How one API shows what an agent says."""

    def show(self, items: list[Item]) -> list[Item]:
        """The items to be shown for these."""
        ...


class Unchanged:
    """Shows everything, for APIs that have a place for each event."""

    def show(self, items: list[Item]) -> list[Item]:
        """All of them."""
        return items


class Interruptible(Protocol):
    """Running work that can be ended with an error."""

    def interrupt(self, error: OpenAICompatError) -> None:
        """End it."""
        ...


class Asker(Protocol):
    """Whose request it is, and where its log lines are."""

    @property
    def principal(self) -> Principal:
        """Who asks."""
        ...

    @property
    def request_id(self) -> str:
        """The `x-request-id` of the answer."""
        ...


class ChoiceStream(Protocol):
    """One choice of a streamed answer."""

    def begin(self) -> bytes:
        """What the choice begins with, if that is still to come."""
        ...

    def feed(self, items: list[Item]) -> bytes:
        """The bytes for these items."""
        ...


@dataclass(frozen=True, slots=True)
class Form:
    """How one API writes an answer.

    Attributes:
        stream: makes the writer of one choice, by its index.
        stream_end: what follows the last choice.
        whole: the plain answer.
        keep: makes of the plain answer what is to be stored, None if it is not wanted.
    """

    stream: Callable[[int], ChoiceStream]
    stream_end: Callable[[Usage], bytes]
    whole: Callable[[Sequence[FinalMessage]], bytes]
    keep: Callable[[bytes], StoredCompletion] | None = None


def _hidden() -> View:
    return Presentation("hidden")


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be run: one agent, for one request or several side by side, each of them one choice.

    Attributes:
        id: the answer's id.
        view: makes the view of one turn.
        draft: the conversation that the only request belongs to.
        background: whether nobody waits for it, so that it has more time.
        said_view: makes the view of a turn that its conversation keeps.
        before: what is to be done just before the agent is started, when nothing can hinder it any more.
        questions: what the turn asks people about, once it is over.
    """

    id: str
    agent: str
    backend: AgentBackend
    requests: Sequence[AgentRequest]
    view: Callable[[], View]
    draft: Draft | None = None
    background: bool = False
    said_view: Callable[[], View] = _hidden
    before: Callable[[], Awaitable[None]] | None = None
    questions: Callable[[], tuple[Approval, ...]] | None = None


class Turns:
    """The turns of one job, read together. They run inside `async with`: leaving it stops them, all at once.

    With `fold`, what they show is folded into messages.
    """

    def __init__(
        self, deadlines: Deadlines, running: set[Interruptible], asker: Asker, job: Job, seat: Seat, *, fold: bool
    ) -> None:
        self.job = job
        self._running = running
        self._seat = seat
        self._wake = new_signal()
        self._clock = clock()
        seconds = deadlines.background if job.background else deadlines.request
        self._silence = Silence(deadlines, seconds, self._clock())
        self._waits = 0
        self._interrupted: OpenAICompatError | None = None
        deadline = time.monotonic() + seconds
        self.turns = [
            Turn(
                job.backend,
                request,
                RunContext(_turn_id(job.id, index), asker.request_id, deadline, logger),
                wake=self._wake,
                grace=deadlines.grace,
                released=seat.give_back,
            )
            for index, request in enumerate(job.requests)
        ]
        self._views = [job.view() for _ in job.requests]
        self._shown = [Reducer() for _ in job.requests] if fold else []
        self._said = Reducer() if job.draft is not None else None
        self._said_view = job.said_view()

    async def __aenter__(self) -> Self:
        for turn in self.turns:
            self._seat.borrow()
            turn.start()
        self._running.add(self)
        if self.job.draft is not None:
            self.job.draft.on_interrupt(self.interrupt)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._running.discard(self)
        self._wake.close()
        running = [turn for turn in self.turns if turn.running]
        if running:
            with anyio.CancelScope(shield=True):
                async with anyio.create_task_group() as group:
                    for turn in running:
                        group.start_soon(turn.stop)

    @property
    def over(self) -> bool:
        """True when every turn has ended well and all of it was taken."""
        for turn in self.turns:
            if turn.error is not None or not turn.over:
                return False
        return self._interrupted is None

    def interrupt(self, error: OpenAICompatError) -> None:
        """End the turns with `error`, as if the agent had raised it, unless it has said its last already."""
        if not self._has_finished():
            self._interrupted = error
            self._wake.set()

    def take(self) -> list[tuple[int, list[Item]]]:
        """What each turn has to show since the last call. Raises a failure once all that came before it is taken."""
        if self._interrupted is not None:
            raise self._interrupted
        taken: list[tuple[int, list[Item]]] = []
        failed: OpenAICompatError | None = None
        for index, turn in enumerate(self.turns):
            if turn.waiting:
                taken.append((index, self._show(index, turn.take())))
            failed = failed or turn.error
        if failed is not None and not taken:
            raise failed
        return taken

    def _show(self, index: int, items: list[Item]) -> list[Item]:
        if self._said is not None:
            self._said.feed(self._said_view.show(items))
        items = self._views[index].show(items)
        if self._shown:
            self._shown[index].feed(items)
        return items

    def _has_something(self) -> bool:
        for turn in self.turns:
            if turn.waiting or turn.error is not None:
                return True
        return self._interrupted is not None

    def _has_finished(self) -> bool:
        return all([turn.finished for turn in self.turns])

    def now(self) -> float:
        """The event loop's time, in seconds."""
        return self._clock()

    async def wait(self, until: float = math.inf) -> None:
        """Return when there is something to take, or a failure to raise, or at `until` (the event loop's time).

        Raises DeadlineExceeded when the agents have had their time, or were silent for too long. Writes are never
        interrupted by that, so that it is always known what the client has got; they have a deadline of their own.
        """
        self._waits += 1
        if not self._waits % CANCELLABLE_EVERY:
            await anyio.lowlevel.checkpoint_if_cancelled()
        if not self._has_something():
            await self._wake.wait(min(until, self._silence.next) - self._clock())
        if not self._has_finished():
            self._silence.check(self._clock(), heard=self._has_something())

    @property
    def messages(self) -> list[FinalMessage]:
        """What each turn has shown, folded; if they are to be."""
        return [reducer.message() for reducer in self._shown]

    @property
    def said(self) -> FinalMessage | None:
        """What the turn in a conversation has said, however it is shown; None without a conversation."""
        return None if self._said is None else self._said.message()


class Silence:
    """How long agents may still run, and how long they may still say nothing; times are the event loop's."""

    def __init__(self, deadlines: Deadlines, seconds: float, now: float) -> None:
        self._end = now + seconds
        self._idle = math.inf if deadlines.idle is None else deadlines.idle
        self._next = now + (math.inf if deadlines.first_event is None else deadlines.first_event)

    @property
    def next(self) -> float:
        """When something has to be done about it."""
        return min(self._end, self._next)

    def check(self, now: float, *, heard: bool) -> None:
        """Raise DeadlineExceeded if one has passed. What was `heard` begins the silence anew."""
        if now >= self._end:
            raise DeadlineExceeded("The agent took too long and was stopped.", should_retry=False)
        if heard:
            self._next = now + self._idle
        elif now >= self._next:
            text = "The agent was silent for too long and was stopped."
            raise DeadlineExceeded(text, code="agent_silent", should_retry=False)


def _turn_id(answer: str, index: int) -> str:
    return answer if index == 0 else f"{answer}-{index}"
