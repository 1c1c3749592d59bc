"""Runs a turn: runs its agent, writes the output, stores the outcome. Every API uses `TurnRunner.run`.

    slot -> before_start -> agent -> output, as it arrives -> commit -> the last frames

An API describes the turn with a `TurnPlan`: what is run, the format and target of the answer, and what is stored. The rest
is the same for all: the mapping of failures, the maximum length, keep-alives, and the release of the slot.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol

import anyio

from ..agent_request import AgentRequest
from ..agents.error_mapping import forbid_retry
from ..aio.background import drop_tracebacks
from ..aio.timers import OfferHandler
from ..errors import AgentError, Conflict, OpenAICompatError
from ..events import Finished, Paused, UsageReported
from ..http import ClientDisconnected, ClientTooSlow
from ..policies.hooks import TurnInfo
from ..policies.limits import Deadlines, Limits
from ..state.agent_state import PATIENCE, final_state, settle_pause, use_pause
from ..state.approvals import GrantsByAgent
from ..state.spending import Spending
from ..stores.port import Store, TurnCommit
from ..wire.reducer import Item, Texts, size_of
from .agent_reports import AgentReports
from .hooked_run import HookedRun, HookSet, cancelled_by
from .parked_runs import ParkedRuns, parked_run
from .plan import Delivery, Frames, Interruptible, Requester, Taken, TurnPlan
from .run_group import RunGroup
from .slots import Seat, SlotRequest, Slots
from .turn_log import TurnLog

logger = logging.getLogger("openai_compat")


class SeatedTurn(Protocol):
    """The part of a turn that must be known before it has slots."""

    @property
    def requester(self) -> Requester:
        """The requester, to whom rates and budgets are attributed."""
        ...

    @property
    def requests(self) -> Sequence[AgentRequest]:
        """The requests to the agent, one per choice; empty if no agent runs."""
        ...

    @property
    def api(self) -> str:
        """Name of the API for hooks."""
        ...

    @property
    def agent(self) -> str:
        """The agent's own name, whatever model was requested."""
        ...

    @property
    def response_id(self) -> str:
        """The id of the answer, as the client sees it."""
        ...

    @property
    def info(self) -> TurnInfo:
        """The turn's first run, as reported to hooks."""
        ...


@dataclass(frozen=True, slots=True)
class TurnRunner:
    """Runs the turns of one server.

    Attributes:
        parked: agents that wait for a later request.
        running: running turns, which a shutdown interrupts.
        reports: the reporter of what agents leave undone.
        hooks: hooks that admit and observe turns.
        spending: the token budgets, if there are any.
        grants: always-allow grants.
    """

    slots: Slots
    limits: Limits
    deadlines: Deadlines
    store: Store
    grants: GrantsByAgent
    parked: ParkedRuns
    running: set[Interruptible] = field(default_factory=set[Interruptible])
    reports: AgentReports = field(default_factory=AgentReports)
    hooks: HookSet = field(default_factory=HookSet)
    spending: Spending | None = None

    async def run(self, plan: TurnPlan[Frames]) -> None:
        """Take a slot and run the turn in it.

        Raises OpenAICompatError for failures before the agent is started, and those that `plan.fail` raises.
        """
        seat = await self.take_seat(plan)
        try:
            await self.run_seated(plan, seat)
        finally:
            if seat.is_open:
                seat.close()
            if self.slots.are_shared:
                await self.slots.wait_released()

    async def take_seat(self, turn: SeatedTurn) -> Seat:
        """Ask the hooks to admit the turn, and take its slots. Raises OpenAICompatError if it is refused."""
        logged = logger.isEnabledFor(logging.INFO)
        if turn.requests and (logged or self.hooks.admits):
            if logged:
                turn.requester.turn = TurnLog(turn.api, turn.agent, turn.requests[0], turn.response_id)
            if self.hooks.admits:
                await self.hooks.admit(turn.info)
        if turn.requests and self.spending is not None:
            turn.requester.headers += await self.spending.check(turn.requester.principal)
        # A resumed agent still has its slot.
        number = len([True for one in turn.requests if one.resume is None or parked_run(one.resume) is None])
        seat = await self.slots.take(SlotRequest(number, turn.agent, turn.requester.principal))
        if turn.requester.turn is not None:
            turn.requester.turn.queued = seat.queued
        return seat

    async def run_seated(self, plan: TurnPlan[Frames], seat: Seat) -> None:
        """Run a turn in slots that were taken before. They are released when the agent has ended."""
        log = plan.requester.turn
        if plan.requests and plan.requests[0].resume is not None:  # all choices have the same request
            self.parked.check(plan.requests)
        # It consumes decisions, so nothing may fail between it and the agent.
        await plan.before_start()
        # For the maximum duration of this turn: a second decision must wait for the outcome of the first.
        if plan.given.pause is not None:
            longest = self.deadlines.background if plan.background else self.deadlines.request
            await use_pause(self.store, plan.given.pause, longest + self.deadlines.grace + PATIENCE)
        can = plan.backend.capabilities
        if can.parameters is not None:
            self.reports.report_ignored(plan.agent, plan.requester, plan.requests, can)
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
                await settle_pause(self.store, plan.given.pause, plan.requester.request_id, done=False)
            cause = None if whole else failed or plan.stopped
            cancelled = None if whole else cancelled_by(cause)
            for run in hooked:
                run.end_turn(cause, cancelled, committed=plan.kept)
            if self.spending is not None and not plan.counted:
                await self.spending.add(plan.requester.principal, plan.usage, plan.requester.request_id)
            if log is not None:
                log.end(plan.usage, cause, cancelled)

    async def _run(self, plan: TurnPlan[Frames], seat: Seat, hooked: list[HookedRun]) -> OpenAICompatError | None:
        """Run the agent, and again as long as the plan has further requests. Returns the failure, if any."""
        requests, size, number = plan.requests, 0, 0
        hooks = self.hooks.current if self.hooks.watches or logger.isEnabledFor(logging.DEBUG) else None
        while True:
            # One slot for all runs of an answer: if released in between, it could go to a waiting request, and an answer whose
            # agent has already acted would be refused.
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
                    seat.close()  # each slot is released when its agent has ended
                size = await TurnOutput(self, plan, runs, size).write()
                if runs.silent:
                    self.reports.report_silent(plan.agent, plan.requester)
                requests = () if plan.single else await plan.next_requests()
                if not requests:
                    await self._finish(plan, runs, seat)
                    return None
            # No retry for a client that has disconnected: nothing can be written to it.
            except (ClientDisconnected, ClientTooSlow):
                raise
            except Exception as error:
                cause = failed = _to_client_error(error, plan.requester.request_id)
                requests = plan.retry(failed)
                if not requests:
                    seat.close()
                    if plan.fails_at_once:  # stopping the agents may take a while
                        await plan.fail(failed)
                    return failed
            finally:
                if runs.close():
                    await runs.stop(cause or plan.stopped)
                runs.add_unread_usage(plan.usage)

    async def _finish(self, plan: TurnPlan[Frames], runs: RunGroup, seat: Seat) -> None:
        """Store the outcome, then write the last frames: a client that gets them may request the stored objects."""
        if seat.is_open:
            seat.close()
        outcome, last = await plan.ending()
        if self.spending is not None:
            outcome = await self._add_usage(self.spending, plan, outcome)
        if outcome is not None:
            try:
                await commit(self.store, outcome)
            except BaseException:
                plan.not_committed()
                raise
            plan.kept = plan.counted = True
            await plan.committed()
            runs.detach_parked()
            if plan.last_state is not None and not plan.last_state.is_reachable(outcome.states):
                self.reports.report_lost_state(plan.agent, plan.requester)
        if plan.given.pause is not None:  # consumed, even if the client never gets the last frames
            await settle_pause(self.store, plan.given.pause, plan.requester.request_id, done=True)
        plan.given = TurnPlan.given
        await plan.delivery.end(last)

    async def _add_usage(
        self, spending: Spending, plan: TurnPlan[Frames], outcome: TurnCommit | None
    ) -> TurnCommit | None:
        """Add the turn's usage to the outcome, so that both are stored or neither. Without an outcome, store it at once."""
        requester = plan.requester
        if outcome is None:
            plan.counted = True
            await spending.add(requester.principal, plan.usage, requester.request_id, checked=True)
            return None
        spends, charges = spending.amounts_of(requester.principal, plan.usage)
        return replace(outcome, spends=spends, charges=charges) if spends or charges else outcome


class TurnOutput(Generic[Frames]):
    """Passes the output of a turn's agents to the delivery: each round writes all available output at once.

    Attributes:
        size: size of the output so far, for bounded answers.
        held: frames that could not be written at once.
    """

    held: Frames | None = None
    _failed: Exception | None = None
    _write_now: Callable[[Frames], bool] | None = None

    def __init__(self, runner: TurnRunner, plan: TurnPlan[Frames], runs: RunGroup, size: int) -> None:
        self._runner = runner
        self._plan: TurnPlan[Frames] = plan
        self._runs = runs
        self._idle_deadline = runs.idle_deadline
        self._delivery: Delivery[Frames] = plan.delivery
        self._heartbeat = runner.deadlines.heartbeat
        self._log = plan.requester.turn
        # A status line cannot be changed once sent: until then, an agent that fails early is answered with its real status.
        self._silent_until = runs.began + runner.deadlines.head
        self.size = size

    @property
    def until(self) -> float:
        """Time at which something must be written or flushed even without output (on the event loop's clock)."""
        return min(self._silent_until, self._delivery.due)

    async def write(self) -> int:
        """Write the output of the agents as it arrives, with keep-alives in between, until they have ended.

        Returns the output's size, including earlier runs. Raises the agents' failure.
        """
        plan, runs, delivery = self._plan, self._runs, self._delivery
        while self.held or not runs.over:
            if not runs.finished:
                await runs.wait(self.until, self.on_offer)
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
    def on_offer(self) -> OfferHandler | None:
        """A callback that writes in place of the waiting task; None if the task must be woken to write."""
        self._write_now = self._delivery.write_now
        return None if self._write_now is None else self._write_without_waking

    def _write_without_waking(self, now: float) -> float | None:
        """Write available output without waking the waiting task, which would be most of the cost of an event.

        Returns the time at which the task must be woken; None for at once, if it has more to do than write.
        """
        try:
            frames = self._feed(self._runs.take())
            if frames:
                if self._write_now is None or not self._write_now(frames):
                    self.held = frames
                    return None
                self._silent_until = now + self._heartbeat
        except Exception as error:  # raised later by the task; includes a client that has disconnected
            self._failed = error
            return None
        return min(self._silent_until, self._delivery.due, self._idle_deadline.restart(now))

    def _feed(self, taken: Taken) -> Frames:
        """Return the frames for new items."""
        log = self._log
        if log is not None and log.first is None and taken:
            log.first = time.monotonic()
        for _, items in taken:
            if self._plan.bounded or type(items) is not Texts:
                self._inspect_items(items)
        return self._plan.feed(taken)

    def _inspect_items(self, items: list[Item]) -> None:
        """Count items and store the agent's state. Raises AgentError if the answer is too long."""
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
                plan.last_state = final_state(item, self._runner.limits.state, plan.requester.request_id)
        if plan.bounded:
            self.size += size
            if self.size > self._runner.limits.answer:
                raise AgentError("The agent's answer is too long.", status=502, code="answer_too_large")


async def commit(store: Store, outcome: TurnCommit) -> None:
    """Store a turn's outcome, whole or not at all, even if the client disconnects meanwhile. Raises Conflict."""
    with anyio.CancelScope(shield=True):
        if await store.commit(outcome):
            return
    # OpenAI's SDKs retry a 409 unless told not to, and this agent has already run.
    raise Conflict("The conversation was changed meanwhile.", code="turn_lost", should_retry=False)


def _to_client_error(error: Exception, request_id: str) -> OpenAICompatError:
    """Return the error for the client. Unexpected exceptions are logged, and become a generic 500."""
    if isinstance(error, OpenAICompatError):
        # SDKs retry a 5xx twice. That is harmless for a model, but an agent may have sent mail.
        return forbid_retry(error)
    logger.error("%s: unexpected error", request_id, exc_info=error, extra={"request_id": request_id})
    drop_tracebacks(error)
    # Not the exception's own text, which may contain secrets.
    return OpenAICompatError("The server failed.", code="internal_error", should_retry=False)
