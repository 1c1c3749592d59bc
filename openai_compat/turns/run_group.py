"""The runs of one agent for one turn, side by side for several choices, read together."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel

from ..agent_request import AgentRequest
from ..aio.timers import Instead, new_wake_event
from ..backend import KeptGrants, RunContext
from ..errors import DeadlineExceeded, OpenAICompatError
from ..events import UsageReported
from ..policies.limits import Deadlines
from ..wire.reducer import Usage
from .agent_run import AgentRun
from .hooked_run import HookedRun, HookSet
from .parked_runs import ParkedRuns
from .plan import Taken, TurnPlan, run_id, turn_info
from .slots import Seat

logger = logging.getLogger("openai_compat")

CANCELLABLE_EVERY = 16
"""On asyncio, anyio does not cancel a task whose future is done already, which with a steady agent it always is. So a
reader looks by itself whether it was cancelled, every so many waits."""


class RunGroup:
    """One run of the agent for each request, side by side.

    Args:
        grants: where it is kept what people have allowed for always.
        hooks: who is told of the runs, if anybody is.
        round: how many runs of the same turn came before.

    Attributes:
        clock: the event loop's time, in seconds.
        began: when it was made, by that.
        hooked: the runs that hooks are told of once more, when the turn is over.
        silence: how long they may still run, and say nothing.
    """

    _waits = 0

    def __init__(
        self,
        deadlines: Deadlines,
        turn: TurnPlan[Any],
        requests: Sequence[AgentRequest],
        *,
        seat: Seat,
        parked: ParkedRuns,
        grants: KeptGrants | None = None,
        hooks: HookSet | None = None,
        round: int = 0,
    ) -> None:
        self._interrupted = turn.stopped  # before its runs could begin: they end at once
        # One for all runs: who reads them waits for whichever says something first.
        self._wake = new_wake_event(turn.requester.loop)
        self.clock = self._wake.clock
        self.began = self.clock()
        seconds = deadlines.background if turn.background else deadlines.request
        self.silence = IdleDeadline(deadlines, seconds, self.began)
        began, request_id = time.monotonic(), turn.requester.request_id
        deadline = began + seconds
        self._runs: list[AgentRun] = []
        self.hooked: list[HookedRun] = []
        for index, request in enumerate(requests):
            identifier = turn.id if index == 0 else run_id(turn.id, index)
            context = RunContext(identifier, request_id, deadline, logger)
            context.grants = grants
            hooked = None
            if hooks is not None:
                hooked = HookedRun(hooks, turn_info(turn, requests, seat.queued, index, round), began)
                if hooks.settled:
                    self.hooked.append(hooked)
            run = None
            # An agent that waits in this process goes on where it stands; one that does not begins with its state.
            if request.resume is not None and request.resume.state is not None:
                parked.end_superseded(request.resume)
                run = parked.find(request.resume)
            if run is not None:
                run.resume(request, context, self._wake, seat, hooked)
            else:
                run = AgentRun(
                    turn.backend,
                    request,
                    context,
                    wake=self._wake,
                    grace=deadlines.grace,
                    seat=seat,
                    parked=parked,
                    hooked=hooked,
                    cuts=turn.cuts,
                )
            self._runs.append(run)

    def start(self) -> None:
        """Start the agents. From here on `close` has to be called, and `stop` if it says so."""
        for run in self._runs:
            run.start()

    def leave_parked(self) -> None:
        """The turn is kept: its agents that wait for a later request are no longer this turn's to stop."""
        self._runs = [run for run in self._runs if not run.parked]

    def close(self) -> bool:
        """Nobody waits any more for what they say. Returns whether agents still run, which are to be stopped."""
        if self._waits:
            self._wake.close()
        running = False
        for run in self._runs:
            running = running or run.running
        return running

    async def stop(self, cause: OpenAICompatError | None = None) -> None:
        """Stop the agents that still run, all at once. `cause` has ended the turn; None for a client that has left."""
        # Shielded: this task is cancelled when the client has left, and the agents are to be stopped all the same.
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for run in self._runs:
                    if run.running:
                        group.start_soon(run.stop, cause)

    def add_unread(self, usage: Usage) -> None:
        """Add tokens whose report was never taken, once the runs are stopped: they were used all the same."""
        for run in self._runs:
            for item in run.rest:
                if isinstance(item, UsageReported):
                    usage.add(item)

    @property
    def over(self) -> bool:
        """True when every agent has ended well and all of it was taken."""
        for run in self._runs:
            if run.texts or run.rest or run.error is not None or not run.finished:
                return False
        return self._interrupted is None

    @property
    def finished(self) -> bool:
        """True when every agent has said its last."""
        finished = True
        for run in self._runs:
            finished = finished and run.finished
        return finished

    @property
    def silent(self) -> bool:
        """True if every agent has ended well, and has said and done nothing."""
        silent = True
        for run in self._runs:
            silent = silent and run.silent
        return silent

    def interrupt(self, error: OpenAICompatError) -> None:
        """End the runs with `error`, as if the agent had raised it, unless it has said its last already."""
        if not self.finished:
            self._interrupted = error
            self._wake.set()

    def take(self) -> Taken:
        """Items since the last call, by choice. Raises a failure once all items before it were taken."""
        if self._interrupted is not None:
            raise self._interrupted
        taken: Taken = []
        for index, run in enumerate(self._runs):
            if run.texts or run.rest:
                for batch in run.take():
                    taken.append((index, batch))
        # What was said before a failure is told before it.
        if not taken:
            for run in self._runs:
                if run.error is not None:
                    raise run.error
        return taken

    def _has_something(self) -> bool:
        for run in self._runs:
            if run.texts or run.rest or run.error is not None:
                return True
        return self._interrupted is not None

    async def wait(self, until: float, instead: Instead | None = None) -> None:
        """Return when there is something to take, or a failure to raise, or at `until` (the event loop's time).

        `instead` is called for what there is to take; as long as it returns a time, it is waited on, until then.

        Raises DeadlineExceeded when the agents have had their time, or were silent for too long. Writes are never
        interrupted by that, so that it is always known what the client has got; they have a deadline of their own.
        """
        self._waits += 1
        if not self._waits % CANCELLABLE_EVERY:
            await anyio.lowlevel.checkpoint_if_cancelled()
        if not self._has_something():
            await self._wake.wait(min(until, self.silence.next), instead)
        if not self.finished:
            self.silence.check(self.clock(), heard=self._has_something())


class IdleDeadline:
    """How long agents may still run, and how long they may still say nothing; times are the event loop's."""

    def __init__(self, deadlines: Deadlines, seconds: float, now: float) -> None:
        self._end = now + seconds
        self._idle = math.inf if deadlines.idle is None else deadlines.idle
        self._next = now + (math.inf if deadlines.first_event is None else deadlines.first_event)

    @property
    def next(self) -> float:
        """When something has to be done about it."""
        return min(self._end, self._next)

    def heard(self, now: float) -> float:
        """Any output restarts the idle deadline. Returns when something has to be done about it."""
        self._next = now + self._idle
        return min(self._end, self._next)

    def check(self, now: float, *, heard: bool) -> None:
        """Raise DeadlineExceeded if one has passed."""
        if now >= self._end:
            raise DeadlineExceeded("The agent took too long and was stopped.", should_retry=False)
        if heard:
            self.heard(now)
        elif now >= self._next:
            text = "The agent was silent for too long and was stopped."
            raise DeadlineExceeded(text, code="agent_silent", should_retry=False)
