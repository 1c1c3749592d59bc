"""The life of one run of a backend, in a task of its own, read through a bounded buffer.

    run.start()                          the agent starts
    while run.texts or run.rest or not run.finished:
        batches = run.take()             what it has said since
        ...                              await wake.wait() when there is nothing
    await run.stop()                     the agent has been stopped; always, on every path

Whatever an agent raises is caught in its task (`SystemExit` and `KeyboardInterrupt` too, which would end the whole
server) and kept in `run.error`.
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
from ..aio.background import Task, let_go, spawn_at_once
from ..aio.timers import Waiter, WakeEvent, new_waiter
from ..backend import AgentBackend, RunContext, SupportsCancel
from ..errors import OpenAICompatError
from ..events import AgentEvent, Paused, PendingCall
from ..messages import ToolMessage
from ..state.agent_state import CallMarks
from ..state.ids import new_id
from ..wire.reducer import LARGE, Item, Texts, size_of
from .awaited_calls import AwaitedCall, brought_before
from .event_contract import BROKEN, EventContract
from .hooked_run import HookedRun, cancelled_by
from .parked_runs import RUN, ParkedRuns
from .slots import Seat

# So many that a slow moment of the client does not stop a model, so few that a client that does not read stops its agent.
BUFFER = 256
"""Items an agent may be ahead of the client: then it waits."""

TURN_OVER = "The turn is over: nobody can be asked any more."


class _RunAgain(BaseException):
    """Ends an agent that is to be run again when what it asked for is there. No `except Exception` of its own stops it."""


class AgentRun:
    """One run of a backend. See the module's text.

    The slot that it borrows of its seat is given back once the agent has really ended, whichever way.

    Attributes:
        texts: what the agent has said since the last `take`, up to the first event that is no text.
        rest: the same from that event on.
        error: what the agent's failure is to the client, None as long as there is none.
        finished: True when the agent has said all it will say.
        running: True as long as its task has not ended.
    """

    # What most runs leave as it is belongs to the class.
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
    _unheard = False
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
        self._contract, self._marks = self._rules()
        self.texts, self.rest = Texts(), list[Item]()
        self._queue: list[Item] = self.texts

    def _rules(self) -> tuple[EventContract, CallMarks | None]:
        """What the agent's events have to keep to in this turn, and what gives its calls ids by which its state is found."""
        request, can = self._request, self._backend.capabilities
        # In a conversation the state is found by that; without tools, the client has none to call.
        stateless = request.conversation_id is None and request.tool_choice.names
        marks = CallMarks(self._context.turn_id, always=can.keeps_state) if stateless else None
        return EventContract(request, counts_tokens=can.counts_tokens or not self._cuts), marks

    @property
    def silent(self) -> bool:
        """True if the agent has ended by itself, and has said and done nothing."""
        return self._contract.silent and not self._contract.ended_early and self.error is None

    def take(self) -> list[list[Item]]:
        """Everything the agent has said since the last call: its texts, which are one batch, and the rest."""
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
        """Start the agent, or let it go on. From here on `stop` has to be called."""
        if self._task is not None:
            self._go_on()
            return
        self._seat.borrow()
        self.running = True
        self._context.asker = self
        # An ordinary task, in no task group: there every later `await` would be cancelled too, and the clean-up of
        # ordinary agents (`finally: await session.close()`) would die at its first one.
        name = f"agent {self._context.turn_id}"
        self._task = spawn_at_once(self._run, name, self._release, self._variables, self._wake.loop)
        if self._cancelled and self.running:  # by itself, before it was known
            self._task.cancel()

    def _release(self) -> None:
        """The agent has ended; also where the task was cancelled before it began."""
        if self.running:
            self.running, self.finished = False, True
            if self._parked is not None:
                self._leave_park()
            self._context.asker = None  # each has the other
            self._seat.give_back()

    async def stop(self, cause: OpenAICompatError | None = None) -> None:
        """Stop the agent if it still runs; wait for its end, but no longer than the grace period. To be shielded.

        `cause` is what has ended the turn; None for a client that has left.
        """
        self._cause = cause
        self._leave_park()
        if self._task is not None and not self._task.done:
            # An agent may swallow its cancellation: the end of the answer does not wait for that.
            with anyio.move_on_after(self._grace):
                await self._stop(self._task)
            if not self._task.done:
                self._context.logger.warning(
                    "%s: the agent still runs %g s after it was told to stop; it keeps its slot until it ends",
                    self._context.request_id,
                    self._grace,
                )

    async def _stop(self, task: Task) -> None:
        """Ask the backend, drop what still comes, cancel the task, wait for its end.

        Its generator is never closed from here: frameworks break when that happens in another task than their own.
        Two steps of the loop let a generator that waits for room reach an `await` of its own first.
        """
        self._drop()
        if isinstance(self._backend, SupportsCancel):
            _quietly(self._backend.request_cancel, self._context)
        try:
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
        finally:
            self._cancel()
        await task.wait()

    def _drop(self) -> None:
        self._dropping = True
        self._contract.passing = False
        self._context.cancel()
        self._make_room()

    def _cancel(self) -> None:
        """Cancel the agent, once: a second time would hit what it does to clean up."""
        if not self._cancelled:
            self._cancelled = True
            if self._task is not None:
                self._task.cancel()

    # what the agent asks for

    async def ask(self, call: PendingCall, state: Mapping[str, Any] | None) -> Decision | ToolMessage:
        """End the turn with this call, and return what a later request brings for it."""
        found = None if state is None else brought_before(self._request, call, self._used)
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
        # The first of them waits for the others; they find a pause under way.
        if len(self._questions) == 1:
            await anyio.lowlevel.checkpoint()  # what is asked at the same time goes out in one pause
            self._park()
        return await question.answer()

    def _park(self) -> None:
        """End the turn with the questions, and let the agent wait in this process until they are answered."""
        if self._contract.finished:  # by what another task of the agent has said
            raise RuntimeError(TURN_OVER)
        self._parked = self._parked_runs.park(self)
        waiting = tuple([question.call for question in self._questions if question.answered is None])
        try:
            events = self._contract.feed(Paused(waiting, {**(self._request.state or {}), RUN: self._parked}))
        except BaseException:
            self._leave_park()
            raise
        if self._hooked is None:
            self._put_events(events)
        else:
            self._hooked.inside(self._pause, events)

    def _pause(self, events: list[AgentEvent]) -> None:
        """Say the last of this turn. The agent is still there, but none of what it does belongs to a turn."""
        self._put_events(events)
        self._tell_end()

    def _leave_park(self) -> None:
        if self._parked is not None:
            self._parked_runs.forget(self._parked)
            self._parked = None

    def resume(
        self, request: AgentRequest, context: RunContext, wake: WakeEvent, seat: Seat, hooked: HookedRun | None
    ) -> None:
        """Belong to another turn from now on, which has what the agent waits for; `start` lets it go on."""
        self._leave_park()
        if hooked is not None and self._variables is not None:
            hooked.context = self._variables
        self._hooked = hooked
        self._request = request
        self._wake = wake
        self._context.move_to(context)
        self._contract, self._marks = self._rules()
        self.finished = self._full = False
        seat.take_over(self._seat)
        seat.borrow()
        self._seat = seat

    def _go_on(self) -> None:
        if self._hooked is not None:
            self._hooked.inside(self._hooked.started)
        for question in self._questions:
            question.take_answer(self._request)
        if all([question.answered for question in self._questions]):
            self._answer_all()
        else:  # the others are asked for again, at once: who waits for several would never say anything
            self._park()

    async def give_up(self, instead: Decision) -> None:
        """Deny what the agent has asked for, and stop it: nobody will bring an answer."""
        self._drop()
        for question in self._questions:
            question.deny(instead)
        self._answer_all()
        with anyio.CancelScope(shield=True):
            await self.stop()

    def _answer_all(self) -> None:
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
                # A generator that has come to its end has no frame any more, and nothing to be closed.
                if getattr(items, "ag_frame", items) is not None:
                    await self._close(items)
            self._put_events(self._contract.end())
        except _RunAgain:
            pass
        except anyio.get_cancelled_exc_class() as error:
            if not self._cancelled:
                self._fail(error)
            if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
                raise  # trio's scope must see its own cancellation; asyncio's task ends here anyway
        except BaseException as error:  # `sys.exit()` in an agent would end the whole server
            self._fail(error)
        finally:
            if self._hooked is not None:
                self._tell_end()
            self._release()  # before the reader can tell anybody that the turn is over
            self._wake.set()

    def _tell_end(self) -> None:
        """Tell the hooks that the agent has ended, or waits, unless they know it already."""
        hooked, self._hooked = self._hooked, None
        if hooked is not None:
            ended = self._contract.finished or self.error is not None
            hooked.ended(self.error or (None if ended else self._cause), None if ended else cancelled_by(self._cause))

    async def _pump(self, items: AsyncIterator[Any]) -> None:  # noqa: C901  (calls would be most of a piece's cost)
        async for item in items:
            contract = self._contract  # another one, once the agent has waited for a later request
            # Nearly all of what agents say, so it is asked for first, and put without another call.
            if (
                type(item) is str
                and len(item) <= contract.room
                and ((contract.passing and item.isascii()) or (not self._dropping and contract.passes(item)))
            ):
                size = len(item)
                contract.room -= size
                if size:
                    queue = self._queue
                    queue.append(item)
                    if self._hooked is not None:
                        self._hooked.event(item)
                    if size >= LARGE:
                        self._full = True
                    if len(queue) == 1:
                        self._wake.offer()
            elif self._dropping or contract.finished:  # nobody wants it, and an agent need not ever wait by itself
                self._note_unheard(item)
                await anyio.lowlevel.checkpoint()
                if self._cancelled:
                    return
            else:
                self._put_events(contract.feed(item))
                if contract.ended_early:  # cancelled at its own next `await`, so that it does nothing more
                    self._drop()
                    self._cancel()
            if (self._full or len(self._queue) >= self._most) and not self._dropping:
                self._room = new_waiter()
                await self._room.sleep()

    def _note_unheard(self, item: object) -> None:
        """Say once in the log that the agent goes on after its end, unless it was the server that has ended it."""
        if item and not (self._dropping or self._contract.ended_early or self._unheard):
            self._unheard = True
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
            if self._contract.finished:  # nothing follows that would have to wait for room
                self._wake.set()
            else:
                self._full = self._full or max(map(size_of, marked), default=0) >= LARGE
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
        # What was said before the failure is part of the answer, also what was held back.
        self._put_events(self._contract.flush())
        if self._dropping:
            self._log(logging.INFO, "the agent failed after it was stopped", error)
        elif self._contract.finished:
            self._log(logging.WARNING, "the agent failed after its end", error)
        else:
            self.error = to_public_error(error)
            self._log_failure(error)
        let_go(error)

    def _log_failure(self, error: BaseException) -> None:
        """Log a failure. One that is declared is meant for the client, so it gets a traceback only at DEBUG."""
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
        with suppress(Exception):  # a handler that fails must not end the agent's task: on trio, that ends everything
            request_id = self._context.request_id
            self._context.logger.log(
                level, "%s: %s", request_id, text, exc_info=error, extra={"request_id": request_id}
            )


def _quietly(ask: Callable[[RunContext], None], context: RunContext) -> None:
    try:
        ask(context)
    except Exception as error:
        context.logger.warning("%s: request_cancel failed", context.request_id, exc_info=error)
