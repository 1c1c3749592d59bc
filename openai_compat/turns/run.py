"""Runs the agent of a turn, writes what it says, keeps what it came to. Every API does it with `TurnRunner.run`.

    slot -> before_start -> agent -> what it says, as it says it -> commit -> the last frames

An API says by a `TurnPlan` what is run, how its answer is written, where to, and what is kept of it. The rest is the same
for all: what a failure becomes, how long an answer may be, what fills a silence, and when the slot is free.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol

import anyio

from ..agent_request import AgentRequest
from ..agents.error_mapping import without_retry
from ..aio.background import let_go
from ..aio.timers import Instead
from ..errors import AgentError, Conflict, OpenAICompatError
from ..events import Finished, Paused, UsageReported
from ..http import ClientDisconnected, ClientTooSlow
from ..policies.hooks import TurnInfo
from ..policies.limits import Deadlines, Limits
from ..state.agent_state import PATIENCE, leave_pause, left_state, use_pause
from ..state.approvals import GrantsByAsker
from ..state.spending import Spending
from ..stores.port import Store, TurnCommit
from ..wire.reducer import Item, Texts, size_of
from .hooked_run import HookedRun, HookSet, cancelled_by
from .parked_runs import ParkedRuns, parked_run
from .plan import Delivery, Frames, Interruptible, Requester, Taken, TurnPlan
from .run_group import RunGroup
from .slots import Seat, SlotRequest, Slots
from .told_once import ToldOnce
from .turn_log import TurnLog

logger = logging.getLogger("openai_compat")


class SeatedTurn(Protocol):
    """The part of a turn that has to be known before it has slots."""

    @property
    def requester(self) -> Requester:
        """Whose request it is, for the rates and budgets that are counted by caller."""
        ...

    @property
    def requests(self) -> Sequence[AgentRequest]:
        """What its agents are asked; empty if none is run."""
        ...

    @property
    def api(self) -> str:
        """The API that it came by, as hooks are told."""
        ...

    @property
    def agent(self) -> str:
        """The agent's own name, whatever model was asked for."""
        ...

    @property
    def response_id(self) -> str:
        """The id that the answer has for its client."""
        ...

    @property
    def info(self) -> TurnInfo:
        """Its first run, as hooks are told of it."""
        ...


@dataclass(frozen=True, slots=True)
class TurnRunner:
    """Runs the turns of one server.

    Attributes:
        parked: agents that wait for a later request.
        running: what runs now; a server that shuts down interrupts it.
        told: tells what its agents leave undone.
        hooks: who is asked before turns, and told of them.
        spending: the budgets of tokens, if there are any.
        grants: what people have allowed for always.
    """

    slots: Slots
    limits: Limits
    deadlines: Deadlines
    store: Store
    grants: GrantsByAsker
    parked: ParkedRuns
    running: set[Interruptible] = field(default_factory=set[Interruptible])
    told: ToldOnce = field(default_factory=ToldOnce)
    hooks: HookSet = field(default_factory=HookSet)
    spending: Spending | None = None

    async def run(self, plan: TurnPlan[Frames]) -> None:
        """Take a slot, run the turn in it.

        Raises OpenAICompatError for what goes wrong before the agent is started, and what `plan.fail` leaves to raise.
        """
        seat = await self.seat(plan)
        try:
            await self.run_seated(plan, seat)
        finally:
            if seat.is_open:
                seat.close()
            if self.slots.are_shared:
                await self.slots.settle()

    async def seat(self, turn: SeatedTurn) -> Seat:
        """Ask the hooks whether the turn may run, and take its slots. Raises OpenAICompatError if it may not."""
        logged = logger.isEnabledFor(logging.INFO)
        if turn.requests and (logged or self.hooks.admits):
            if logged:
                turn.requester.turn = TurnLog(turn.api, turn.agent, turn.requests[0], turn.response_id)
            if self.hooks.admits:
                await self.hooks.admit(turn.info)
        if turn.requests and self.spending is not None:
            turn.requester.headers += await self.spending.check(turn.requester.principal)
        # An agent that goes on has its slot already.
        number = len([True for one in turn.requests if one.resume is None or parked_run(one.resume) is None])
        seat = await self.slots.take(SlotRequest(number, turn.agent, turn.requester.principal))
        if turn.requester.turn is not None:
            turn.requester.turn.queued = seat.queued
        return seat

    async def run_seated(self, plan: TurnPlan[Frames], seat: Seat) -> None:
        """The same in a slot that was taken before. It is free when the agent has ended."""
        log = plan.requester.turn
        if plan.requests and plan.requests[0].resume is not None:  # several choices have the same request
            self.parked.check(plan.requests)
        # Decisions are used up by it, so nothing may fail between it and the agent.
        await plan.before_start()
        # For as long as this turn may last: somebody who decides once more has to wait for what comes of it.
        if plan.given.pause is not None:
            longest = self.deadlines.background if plan.background else self.deadlines.request
            await use_pause(self.store, plan.given.pause, longest + self.deadlines.grace + PATIENCE)
        can = plan.backend.capabilities
        if can.parameters is not None:
            self.told.ignored(plan.agent, plan.requester, plan.requests, can)
        plan.delivery.started()
        if plan.draft is not None:
            plan.draft.on_interrupt(plan.interrupt)
        self.running.add(plan)
        hooked: list[HookedRun] = []
        whole = False
        failed: OpenAICompatError | None = None
        try:
            failed = await self._run(plan, seat, hooked)
            whole = failed is None
            if failed is not None and not plan.fails_at_once:
                await plan.fail(failed)
        finally:
            self.running.discard(plan)
            if plan.given.pause is not None:
                await leave_pause(self.store, plan.given.pause, plan.requester.request_id, done=False)
            cause = None if whole else failed or plan.stopped
            cancelled = None if whole else cancelled_by(cause)
            for run in hooked:
                run.turn_over(cause, cancelled, committed=plan.kept)
            if self.spending is not None and not plan.counted:
                await self.spending.add(plan.requester.principal, plan.usage, plan.requester.request_id)
            if log is not None:
                log.end(plan.usage, cause, cancelled)

    async def _run(self, plan: TurnPlan[Frames], seat: Seat, hooked: list[HookedRun]) -> OpenAICompatError | None:
        """Run the agent, again for as long as the plan has more to ask. Returns what has failed."""
        requests, size, number = plan.requests, 0, 0
        hooks = self.hooks.current if self.hooks.watches or logger.isEnabledFor(logging.DEBUG) else None
        while True:
            # One slot for all runs of an answer: given up in between, it would be gone to somebody who waits,
            # and an answer whose agent has already done things would be refused.
            runs = RunGroup(
                self.deadlines,
                plan,
                requests,
                seat=seat,
                parked=self.parked,
                grants=self.grants[plan.asker or plan.agent],
                hooks=hooks,
                round=number,
            )
            hooked += runs.hooked
            number += 1
            cause: OpenAICompatError | None = None
            runs.start()
            try:
                plan.runs, plan.last_state = runs, None
                if plan.single:
                    seat.close()  # each slot is free when its agent has ended
                size = await TurnOutput(self, plan, runs, size).write()
                if runs.silent:
                    self.told.silent(plan.agent, plan.requester)
                requests = () if plan.single else await plan.next_requests()
                if not requests:
                    await self._finish(plan, runs, seat)
                    return None
            # Of no use to a client that is gone: nothing is written, and no other run is begun for it.
            except (ClientDisconnected, ClientTooSlow):
                raise
            except Exception as error:
                cause = failed = _public(error, plan.requester.request_id)
                requests = plan.retry(failed)
                if not requests:
                    seat.close()
                    if plan.fails_at_once:  # stopping the agents may take its time
                        await plan.fail(failed)
                    return failed
            finally:
                if runs.close():
                    await runs.stop(cause or plan.stopped)
                runs.add_unread(plan.usage)

    async def _finish(self, plan: TurnPlan[Frames], runs: RunGroup, seat: Seat) -> None:
        """Keep what the turn came to, then write its last frames: who hears them may ask for what was kept."""
        if seat.is_open:
            seat.close()
        outcome, last = await plan.ending()
        if self.spending is not None:
            outcome = await self._spend(self.spending, plan, outcome)
        if outcome is not None:
            try:
                await commit(self.store, outcome)
            except BaseException:
                plan.not_committed()
                raise
            plan.kept = plan.counted = True
            await plan.committed()
            runs.leave_parked()
            if plan.last_state is not None and not plan.last_state.leads_back(outcome.states):
                self.told.lost_state(plan.agent, plan.requester)
        if plan.given.pause is not None:  # used up, whether its client still hears the last of it or not
            await leave_pause(self.store, plan.given.pause, plan.requester.request_id, done=True)
        plan.given = TurnPlan.given
        await plan.delivery.end(last)

    async def _spend(self, spending: Spending, plan: TurnPlan[Frames], outcome: TurnCommit | None) -> TurnCommit | None:
        """The outcome with what the turn has used: either both are kept, or neither. Alone, it is kept at once."""
        requester = plan.requester
        if outcome is None:
            plan.counted = True
            await spending.add(requester.principal, plan.usage, requester.request_id, checked=True)
            return None
        spends, charges = spending.of(requester.principal, plan.usage)
        return replace(outcome, spends=spends, charges=charges) if spends or charges else outcome


class TurnOutput(Generic[Frames]):
    """What the agents of one turn say, on its way to the delivery: all there is, in one write, each time around.

    Attributes:
        size: of what was said, where it is bounded.
        held: frames that could not be written at once.
    """

    held: Frames | None = None
    _failed: Exception | None = None
    _write_now: Callable[[Frames], bool] | None = None

    def __init__(self, runner: TurnRunner, plan: TurnPlan[Frames], runs: RunGroup, size: int) -> None:
        self._runner = runner
        self._plan: TurnPlan[Frames] = plan
        self._runs = runs
        self._silence = runs.silence
        self._delivery: Delivery[Frames] = plan.delivery
        self._heartbeat = runner.deadlines.heartbeat
        self._log = plan.requester.turn
        # A status line cannot be taken back: until then, an agent that fails at once is answered with its real status.
        self._silent_until = runs.began + runner.deadlines.head
        self.size = size

    @property
    def until(self) -> float:
        """When something has to be written, or flushed, although nothing is said (the event loop's time)."""
        return min(self._silent_until, self._delivery.due)

    async def write(self) -> int:
        """Write what the agents say as they say it, and fill their silences, until they are over.

        Returns the size of it, added to that of earlier runs. Raises what the agents have failed with.
        """
        plan, runs, delivery = self._plan, self._runs, self._delivery
        while self.held or not runs.over:
            if not runs.finished:
                await runs.wait(self.until, self.instead)
            if self._failed is not None:
                raise self._failed
            frames, self.held = self.held or self._feed(runs.take()), None
            now = runs.clock()
            late = now >= self._silent_until
            if late and not frames:
                frames = plan.idle()
            if frames:
                await delivery.write(frames)
            elif late:
                await delivery.keep_alive()
            if frames or late:
                self._silent_until = runs.clock() + self._heartbeat
            if now >= delivery.due:
                await delivery.flush()
        return self.size

    @property
    def instead(self) -> Instead | None:
        """What writes in place of the task that waits; None where it has to be woken for that."""
        self._write_now = self._delivery.write_now
        return None if self._write_now is None else self._write_meanwhile

    def _write_meanwhile(self, now: float) -> float | None:
        """Write what there is without waking the task that waits for it: that would be most of the cost of an event.

        Returns when that task has to be woken; None for at once, since it has more to do than to write.
        """
        try:
            frames = self._feed(self._runs.take())
            if frames:
                if self._write_now is None or not self._write_now(frames):
                    self.held = frames
                    return None
                self._silent_until = now + self._heartbeat
        except Exception as error:  # nobody hears of it here; that the client has left is one, too
            self._failed = error
            return None
        return min(self._silent_until, self._delivery.due, self._silence.heard(now))

    def _feed(self, taken: Taken) -> Frames:
        """The frames for what was said."""
        log = self._log
        if log is not None and log.first is None and taken:
            log.first = time.monotonic()
        for _, items in taken:
            if self._plan.bounded or type(items) is not Texts:
                self._look_at(items)
        return self._plan.feed(taken)

    def _look_at(self, items: list[Item]) -> None:
        """Count what is to be counted, and keep the state that the agent leaves. Raises AgentError for too long an answer."""
        plan = self._plan
        if type(items) is Texts:
            size, items = sum(map(len, items)), []
        else:
            size = 0
        for item in items:
            if self._log is not None:
                self._log.note(item)
            if isinstance(item, UsageReported):
                plan.usage.add(item)
            elif not isinstance(item, (Finished, Paused)):
                size += size_of(item)
            elif item.state is not None and len(plan.requests) <= 1:
                plan.last_state = left_state(item, self._runner.limits.state, plan.requester.request_id)
        if plan.bounded:
            self.size += size
            if self.size > self._runner.limits.answer:
                raise AgentError("The agent's answer is too long.", status=502, code="answer_too_large")


async def commit(store: Store, outcome: TurnCommit) -> None:
    """Write what a turn leaves behind: whole or not at all, also when the client leaves just now. Raises Conflict."""
    with anyio.CancelScope(shield=True):
        if await store.commit(outcome):
            return
    # OpenAI's SDKs repeat a 409 unless they are told not to, and this agent has run.
    raise Conflict("The conversation was changed meanwhile.", code="turn_lost", should_retry=False)


def _public(error: Exception, request_id: str) -> OpenAICompatError:
    """The error for the client. Unexpected exceptions are logged, and become a generic 500."""
    if isinstance(error, OpenAICompatError):
        # SDKs repeat what fails with 5xx, twice. For a model that is harmless; an agent may have sent mail.
        return without_retry(error)
    logger.error("%s: unexpected error", request_id, exc_info=error, extra={"request_id": request_id})
    let_go(error)
    # Not the exception's own text: it may have secrets in it.
    return OpenAICompatError("The server failed.", code="internal_error", should_retry=False)
