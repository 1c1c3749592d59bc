"""One run of a backend, in a separate task, read through a bounded buffer.

    run.start()                          the agent starts
    while run.texts or run.rest or not run.finished:
        batches = run.take()             its output since the last call
        ...                              await wake.wait() if there is none
    await run.stop()                     the agent has been stopped; required on every path

Every exception of an agent is caught in its task and stored in `run.error`, including `SystemExit` and
`KeyboardInterrupt`, which would end the whole server.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel

from ..agent_request import AgentRequest, Decision
from ..agents.error_mapping import to_public_error
from ..aio.background import Task, drop_tracebacks, spawn_at_once
from ..aio.timers import Waiter, WakeEvent, new_waiter
from ..backend import AgentBackend, RunContext, SupportsCancel
from ..errors import OpenAICompatError
from ..events import AgentEvent, Paused, PendingCall
from ..messages import ToolMessage
from ..state.agent_state import CallMarks
from ..state.ids import new_id
from ..wire.reducer import LARGE_ITEM, Item, Texts, size_of
from .awaited_calls import AwaitedCall, find_answer
from .event_contract import BROKEN, EventContract
from .hooked_run import HookedRun, cancelled_by
from .parked_runs import PARKED_RUN, ParkedRuns
from .slots import Seat

# Enough that a slow moment of the client does not block a model, but a client that does not read blocks its agent.
BUFFER = 256
"""Maximum number of items that an agent may be ahead of its client; beyond that, it waits."""

TURN_OVER = "The turn is over: nobody can be asked any more."


class _RunAgain(BaseException):
    """Ends an agent that will be run again once its answer arrives. A BaseException, so that agents do not catch it."""


class AgentRun:
    """One run of a backend. See the module docstring.

    The run releases the slot borrowed from its seat once the agent has really ended, in whichever way.

    Attributes:
        texts: output since the last `take`, up to the first event that is not text.
        rest: output from that event on.
        error: the failure as reported to the client; None without a failure.
        finished: True once the agent's output is complete.
        running: True until its task has ended.
    """

    # Defaults that most runs leave unchanged are class attributes.
    error: OpenAICompatError | None = None
    finished = False
    running = False
    _task: Task | None = None
    _parked: str | None = None
    _cause: OpenAICompatError | None = None
    _room: Waiter | None = None
    _full = False
    _most = BUFFER
    _dropping = False
    _late_output_logged = False
    _cancelled = False

    def __init__(
        self,
        backend: AgentBackend,
        request: AgentRequest,
        context: RunContext,
        *,
        wake: WakeEvent,
        grace: float,
        seat: Seat,
        parked: ParkedRuns,
        hooked: HookedRun | None = None,
        cuts: bool = True,
    ) -> None:
        self._backend = backend
        self._request = request
        self._context = context
        self._parked_runs = parked
        self._questions: list[AwaitedCall] = []
        self._used: list[str] = []
        self._wake = wake
        self._grace = grace
        self._seat = seat
        self._hooked = hooked
        self._variables = None if hooked is None else hooked.context
        self._cuts = cuts
        self._contract, self._marks = self._new_contract()
        self.texts, self.rest = Texts(), list[Item]()
        self._queue: list[Item] = self.texts

    def _new_contract(self) -> tuple[EventContract, CallMarks | None]:
        """Create the contract of this turn's events, and the marks that let call ids lead to the agent's state."""
        request, can = self._request, self._backend.capabilities
        # A conversation leads to the state without marks; without tools, the client makes no calls.
        stateless = request.conversation_id is None and request.tool_choice.names
        marks = CallMarks(self._context.turn_id, always=can.keeps_state) if stateless else None
        return EventContract(request, counts_tokens=can.counts_tokens or not self._cuts), marks

    @property
    def silent(self) -> bool:
        """True if the agent has ended on its own, without any output or action."""
        return self._contract.silent and not self._contract.ended_early and self.error is None

    def take(self) -> list[list[Item]]:
        """Return all output since the last call: its texts as one batch, then the rest."""
        batches: list[list[Item]] = [self.texts] if self.texts else []
        if self.rest:
            batches.append(self.rest)
            self.rest = []
        self.texts = self._queue = Texts()
        self._most, self._full = BUFFER, False
        if self._room is not None:
            self._make_room()
        return batches

    @property
    def parked(self) -> bool:
        """True while the agent waits for a later request."""
        return self._parked is not None

    def _make_room(self) -> None:
        if self._room is not None:
            self._room.wake()
            self._room = None

    def start(self) -> None:
        """Start or resume the agent. From here on, `stop` must be called."""
        if self._task is not None:
            self._continue()
            return
        self._seat.borrow_slot()
        self.running = True
        self._context.asker = self
        # A plain task, not in a task group: there, every later `await` would be cancelled too, and the clean-up of
        # ordinary agents (`finally: await session.close()`) would fail at its first one.
        name = f"agent {self._context.turn_id}"
        self._task = spawn_at_once(self._run, name, self._release, self._variables, self._wake.loop)
        if self._cancelled and self.running:  # the run cancelled itself before `_task` was set
            self._task.cancel()

    def _release(self) -> None:
        """Release the slot when the agent has ended, even if the task was cancelled before it started."""
        if self.running:
            self.running, self.finished = False, True
            if self._parked is not None:
                self._unpark()
            self._context.asker = None  # breaks a reference cycle
            self._seat.return_slot()

    async def stop(self, cause: OpenAICompatError | None = None) -> None:
        """Stop the agent if it still runs, and wait for its end, at most the grace period. The caller must shield this call.

        `cause` is the error that ended the turn; None if the client has disconnected.
        """
        self._cause = cause
        self._unpark()
        if self._task is not None and not self._task.done:
            # An agent may swallow its cancellation, so the end of the response does not wait forever.
            with anyio.move_on_after(self._grace):
                await self._stop(self._task)
            if not self._task.done:
                self._context.logger.warning(
                    "%s: the agent still runs %g s after it was told to stop; it keeps its slot until it ends",
                    self._context.request_id,
                    self._grace,
                )

    async def _stop(self, task: Task) -> None:
        """Ask the backend to stop, drop further output, cancel the task, and wait for its end.

        Never closes the agent's generator from here: frameworks break if that happens outside the generator's own task.
        Two checkpoints first let a generator that waits for room reach an `await` of its own.
        """
        self._drop_output()
        if isinstance(self._backend, SupportsCancel):
            _try_request_cancel(self._backend.request_cancel, self._context)
        try:
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
        finally:
            self._cancel()
        await task.wait()

    def _drop_output(self) -> None:
        self._dropping = True
        self._contract.passing = False
        self._context.cancel()
        self._make_room()

    def _cancel(self) -> None:
        """Cancel the agent once: a second cancellation would hit its clean-up."""
        if not self._cancelled:
            self._cancelled = True
            if self._task is not None:
                self._task.cancel()

    # questions of the agent

    async def ask(self, call: PendingCall, state: Mapping[str, Any] | None) -> Decision | ToolMessage:
        """End the turn with this call, and return the answer that a later request brings."""
        found = None if state is None else find_answer(self._request, call, self._used)
        if found is not None:
            return found
        if self._contract.finished and self._parked is None:
            raise RuntimeError(TURN_OVER)
        call = replace(call, call_id=new_id("call_"))
        if state is not None:
            self._put_events(self._contract.feed(Paused((call,), state)))
            raise _RunAgain
        question = AwaitedCall(call)
        self._questions.append(question)
        # The first question waits for concurrent ones; these find a pause under way.
        if len(self._questions) == 1:
            await anyio.lowlevel.checkpoint()  # concurrent questions go out in one pause
            self._park()
        return await question.wait_for_answer()

    def _park(self) -> None:
        """End the turn with the questions, and let the agent wait in this process until they are answered."""
        if self._contract.finished:  # by another task of the agent
            raise RuntimeError(TURN_OVER)
        self._parked = self._parked_runs.park(self)
        waiting = tuple([question.call for question in self._questions if question.answer is None])
        try:
            events = self._contract.feed(Paused(waiting, {**(self._request.state or {}), PARKED_RUN: self._parked}))
        except BaseException:
            self._unpark()
            raise
        if self._hooked is None:
            self._put_events(events)
        else:
            self._hooked.run_in_context(self._pause, events)

    def _pause(self, events: list[AgentEvent]) -> None:
        """Emit the last events of this turn. The agent still exists, but nothing it does belongs to a turn."""
        self._put_events(events)
        self._notify_end()

    def _unpark(self) -> None:
        if self._parked is not None:
            self._parked_runs.forget(self._parked)
            self._parked = None

    def resume(
        self, request: AgentRequest, context: RunContext, wake: WakeEvent, seat: Seat, hooked: HookedRun | None
    ) -> None:
        """Move the run to a later turn, which brings the answers; `start` then lets the agent continue."""
        self._unpark()
        if hooked is not None and self._variables is not None:
            hooked.context = self._variables
        self._hooked = hooked
        self._request = request
        self._wake = wake
        self._context.move_to(context)
        self._contract, self._marks = self._new_contract()
        self.finished = self._full = False
        seat.take_over(self._seat)
        seat.borrow_slot()
        self._seat = seat

    def _continue(self) -> None:
        if self._hooked is not None:
            self._hooked.run_in_context(self._hooked.started)
        for question in self._questions:
            question.take_answer(self._request)
        if all([question.answer for question in self._questions]):
            self._wake_questions()
        else:  # ask for the others again at once: an agent waiting for several answers would stay silent
            self._park()

    async def give_up(self, instead: Decision) -> None:
        """Deny the agent's open questions and stop it: no answer will come."""
        self._drop_output()
        for question in self._questions:
            question.deny(instead)
        self._wake_questions()
        with anyio.CancelScope(shield=True):
            await self.stop()

    def _wake_questions(self) -> None:
        questions, self._questions = self._questions, []
        for question in questions:
            question.wake()

    # in the agent's task

    async def _run(self) -> None:
        if self._hooked is not None:
            self._hooked.started()
        try:
            items = self._backend.run(self._request, self._context)
            try:
                await self._pump(items)
            finally:
                # An exhausted generator has no frame and nothing to close.
                if getattr(items, "ag_frame", items) is not None:
                    await self._close(items)
            self._put_events(self._contract.end())
        except _RunAgain:
            pass
        except anyio.get_cancelled_exc_class() as error:
            if not self._cancelled:
                self._fail(error)
            if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
                raise  # trio's scope must see its own cancellation; an asyncio task ends here anyway
        except BaseException as error:  # `sys.exit()` in an agent would end the whole server
            self._fail(error)
        finally:
            if self._hooked is not None:
                self._notify_end()
            self._release()  # before the reader can report that the turn is over
            self._wake.set()

    def _notify_end(self) -> None:
        """Tell the hooks that the agent has ended or paused, unless they know already."""
        hooked, self._hooked = self._hooked, None
        if hooked is not None:
            ended = self._contract.finished or self.error is not None
            hooked.ended(self.error or (None if ended else self._cause), None if ended else cancelled_by(self._cause))

    async def _pump(self, items: AsyncIterator[Any]) -> None:  # noqa: C901  (calls would be most of a piece's cost)
        async for item in items:
            contract = self._contract  # a new contract, after the agent has waited for a later request
            # Text is by far the most frequent item, so it is checked first, and queued without another call.
            if (
                type(item) is str
                and len(item) <= contract.room
                and ((contract.passing and item.isascii()) or (not self._dropping and contract.can_pass(item)))
            ):
                size = len(item)
                contract.room -= size
                if size:
                    queue = self._queue
                    queue.append(item)
                    if self._hooked is not None:
                        self._hooked.event(item)
                    if size >= LARGE_ITEM:
                        self._full = True
                    if len(queue) == 1:
                        self._wake.offer()
            elif self._dropping or contract.finished:  # dropped; the checkpoint is for agents that never await
                self._log_late_output(item)
                await anyio.lowlevel.checkpoint()
                if self._cancelled:
                    return
            else:
                self._put_events(contract.feed(item))
                if contract.ended_early:  # cancelled at its next `await`, so that it does nothing more
                    self._drop_output()
                    self._cancel()
            if (self._full or len(self._queue) >= self._most) and not self._dropping:
                self._room = new_waiter()
                await self._room.sleep()

    def _log_late_output(self, item: object) -> None:
        """Log once that the agent continues after its end, unless the server has ended it."""
        if item and not (self._dropping or self._contract.ended_early or self._late_output_logged):
            self._late_output_logged = True
            name, request_id = type(item).__name__, self._context.request_id
            self._context.logger.warning(
                "%s: event_order: the agent said something (%s) after its end; it is dropped", request_id, name
            )

    def _put_events(self, events: list[AgentEvent]) -> None:
        self.finished = self.finished or self._contract.finished
        if events and not self._dropping:
            marked = events if self._marks is None else self._marks.mark(events)
            if self._queue is self.texts:
                self._queue = self.rest
                self._most -= len(self.texts)
            self.rest += marked
            if self._hooked is not None:
                for item in marked:
                    self._hooked.event(item)
            if self._contract.finished:  # no later item would have to wait for room
                self._wake.set()
            else:
                self._full = self._full or max(map(size_of, marked), default=0) >= LARGE_ITEM
                self._wake.offer()

    async def _close(self, items: AsyncIterator[Any]) -> None:
        aclose = getattr(items, "aclose", None)
        if aclose is None:
            return
        try:
            await aclose()
        except Exception as error:
            if not self._contract.finished:
                raise
            self._log(logging.WARNING, "the agent failed while it was closed", error)

    def _fail(self, error: BaseException) -> None:
        # Output before the failure belongs to the answer, including held-back text.
        self._put_events(self._contract.flush())
        if self._dropping:
            self._log(logging.INFO, "the agent failed after it was stopped", error)
        elif self._contract.finished:
            self._log(logging.WARNING, "the agent failed after its end", error)
        else:
            self.error = to_public_error(error)
            self._log_failure(error)
        drop_tracebacks(error)

    def _log_failure(self, error: BaseException) -> None:
        """Log a failure. A declared error is meant for the client, so it only gets a traceback at DEBUG."""
        if not isinstance(error, OpenAICompatError):
            self._log(logging.ERROR, "the agent failed", error)
        elif error.code in BROKEN:
            self._log(logging.ERROR, f"the agent broke its contract ({error.code})", error)
        elif self._context.logger.isEnabledFor(logging.DEBUG):
            self._log(logging.INFO, "the agent failed", error)
        else:
            said, code = [(text or "")[:200].encode("unicode_escape").decode() for text in (error.message, error.code)]
            self._log(logging.INFO, f"the agent failed: {said} ({code})", None)

    def _log(self, level: int, text: str, error: BaseException | None) -> None:
        with suppress(Exception):  # a failing log handler must not end the task: on trio, that ends everything
            request_id = self._context.request_id
            self._context.logger.log(
                level, "%s: %s", request_id, text, exc_info=error, extra={"request_id": request_id}
            )


def _try_request_cancel(request_cancel: Callable[[RunContext], None], context: RunContext) -> None:
    try:
        request_cancel(context)
    except Exception as error:
        context.logger.warning("%s: request_cancel failed", context.request_id, exc_info=error)
