"""The runs of one agent for one turn, one per choice, running concurrently and read together."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel

from ..agent_request import AgentRequest
from ..aio.timers import OfferHandler, new_wake_event
from ..backend import RunContext, ToolGrants
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
"""On asyncio, anyio does not cancel a task whose future is already done, which it always is with a steadily writing agent. So
a reader checks for its own cancellation after this many waits."""


class RunGroup:
    """One run of the agent per request, all running concurrently.

    Args:
        grants: storage of always-allow grants.
        hooks: hooks that observe the runs, if any.
        round: number of earlier rounds of runs in the same turn.

    Attributes:
        clock: returns the event loop's time, in seconds.
        began: time of creation, on that clock.
        hooked: the runs whose hooks need a call when the turn is over.
        idle_deadline: deadlines for the end of the runs, and for their next output.
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
        grants: ToolGrants | None = None,
        hooks: HookSet | None = None,
        round: int = 0,
    ) -> None:
        self._interrupted = turn.stopped  # interrupted before the runs could start: they end at once
        # One event for all runs: the reader waits for the first output of any.
        self._wake = new_wake_event(turn.requester.loop)
        self.clock = self._wake.clock
        self.began = self.clock()
        seconds = deadlines.background if turn.background else deadlines.request
        self.idle_deadline = IdleDeadline(deadlines, seconds, self.began)
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
            # An agent that waits in this process continues there; any other starts with its state.
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
        """Start the agents. From here on, `close` must be called, and `stop` if `close` returns True."""
        for run in self._runs:
            run.start()

    def detach_parked(self) -> None:
        """Give up parked runs after the turn was stored: this turn no longer stops them."""
        self._runs = [run for run in self._runs if not run.parked]

    def close(self) -> bool:
        """Stop reading. Returns True if agents still run, which must then be stopped."""
        if self._waits:
            self._wake.close()
        running = False
        for run in self._runs:
            running = running or run.running
        return running

    async def stop(self, cause: OpenAICompatError | None = None) -> None:
        """Stop the running agents concurrently. `cause` is the error that ended the turn; None if the client disconnected."""
        # Shielded: this task is cancelled when the client disconnects, but the agents must still be stopped.
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for run in self._runs:
                    if run.running:
                        group.start_soon(run.stop, cause)

    def add_unread_usage(self, usage: Usage) -> None:
        """Add reported tokens that were not read, after the runs were stopped: they were used all the same."""
        for run in self._runs:
            for item in run.rest:
                if isinstance(item, UsageReported):
                    usage.add(item)

    @property
    def over(self) -> bool:
        """True if every agent has ended without an error and all output was taken."""
        for run in self._runs:
            if run.texts or run.rest or run.error is not None or not run.finished:
                return False
        return self._interrupted is None

    @property
    def finished(self) -> bool:
        """True if the output of every agent is complete."""
        finished = True
        for run in self._runs:
            finished = finished and run.finished
        return finished

    @property
    def silent(self) -> bool:
        """True if every agent has ended on its own, without any output or action."""
        silent = True
        for run in self._runs:
            silent = silent and run.silent
        return silent

    def interrupt(self, error: OpenAICompatError) -> None:
        """End the runs with `error`, as if the agent had raised it, unless all agents have finished."""
        if not self.finished:
            self._interrupted = error
            self._wake.set()

    def take(self) -> Taken:
        """Return the items since the last call, by choice. Raises a failure after all items before it were taken."""
        if self._interrupted is not None:
            raise self._interrupted
        taken: Taken = []
        for index, run in enumerate(self._runs):
            if run.texts or run.rest:
                for batch in run.take():
                    taken.append((index, batch))
        # Output before a failure is reported before the failure.
        if not taken:
            for run in self._runs:
                if run.error is not None:
                    raise run.error
        return taken

    def _has_output(self) -> bool:
        for run in self._runs:
            if run.texts or run.rest or run.error is not None:
                return True
        return self._interrupted is not None

    async def wait(self, until: float, on_offer: OfferHandler | None = None) -> None:
        """Return when there is output or a failure to take, or at `until` (on the event loop's clock).

        `on_offer` is called for available output; as long as it returns a time, the wait continues until then.

        Raises DeadlineExceeded if the agents' deadline or idle deadline has passed. This never interrupts a write, so that it
        is always known what the client has got; writes have their own deadline.
        """
        self._waits += 1
        if not self._waits % CANCELLABLE_EVERY:
            await anyio.lowlevel.checkpoint_if_cancelled()
        if not self._has_output():
            await self._wake.wait(min(until, self.idle_deadline.next), on_offer)
        if not self.finished:
            self.idle_deadline.check(self.clock(), has_output=self._has_output())


class IdleDeadline:
    """The deadlines for the end of the agents, and for their next output, on the event loop's clock."""

    def __init__(self, deadlines: Deadlines, seconds: float, now: float) -> None:
        self._end = now + seconds
        self._idle = math.inf if deadlines.idle is None else deadlines.idle
        self._next = now + (math.inf if deadlines.first_event is None else deadlines.first_event)

    @property
    def next(self) -> float:
        """The next deadline."""
        return min(self._end, self._next)

    def restart(self, now: float) -> float:
        """Restart the idle deadline after output. Returns the next deadline."""
        self._next = now + self._idle
        return min(self._end, self._next)

    def check(self, now: float, *, has_output: bool) -> None:
        """Raise DeadlineExceeded if a deadline has passed."""
        if now >= self._end:
            raise DeadlineExceeded("The agent took too long and was stopped.", should_retry=False)
        if has_output:
            self.restart(now)
        elif now >= self._next:
            text = "The agent was silent for too long and was stopped."
            raise DeadlineExceeded(text, code="agent_silent", should_retry=False)
