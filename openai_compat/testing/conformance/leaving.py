"""Clients that leave: whatever was going on, the agent stops."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio

from ..answer import Answer
from ..client_call import Call
from ..faults import slow
from ..subject import Subject, running_tasks, still_running
from .base import Examination, expect, skip
from .streams import says_something

Moment: TypeAlias = Callable[[Call, Subject], Awaitable[None]]


class LeavingChecks(Examination):
    """Checks of an agent whose client leaves, at four moments."""

    def test_the_agent_stops_when_the_client_leaves_a_plain_request(self) -> None:
        """Watch for `http.disconnect` while the agent works, also when nothing is sent; cancel its task."""
        self._leave(self._begun, stream=False, after=self.pieces_to_text if self.pieces > self.pieces_to_text else 0)

    def test_the_agent_stops_when_the_client_leaves_before_the_first_piece(self) -> None:
        """A client may leave while the agent still thinks. Do not wait for the first write to find out."""
        self._leave(self._begun, stream=True)

    def test_the_agent_stops_when_the_client_leaves_between_two_pieces(self) -> None:
        """The most common case: a person presses Stop. Cancellation must reach the agent at its own `await`.

        In the agent: let CancelledError and GeneratorExit pass, and cancel in a `finally` what you started.
        """
        self._leave(self._said_something, stream=True, after=self.pieces_to_text)

    def test_the_agent_stops_when_the_client_leaves_while_a_piece_is_written(self) -> None:
        """A client that does not read holds the writer up: it must not have to finish writing to find out."""
        self._leave(self._being_written, stream=True, after=self.pieces_to_text)

    def _leave(self, moment: Moment, *, stream: bool, after: int = 0) -> None:
        __tracebackhide__ = True
        body = self.body(self.long_prompt or self.prompt, stream=stream)
        self.plain  # noqa: B018  (asked before, so that what lives on after a first request is not counted)
        left = self.run(lambda: self._left_behind(moment, body, after))
        if left is None:
            skip("the answer was complete before the client could leave; set a `long_prompt` that takes longer")
        expect(not left, f"{self.patience:g} s after the client left there still runs: {', '.join(left)}")

    async def _left_behind(self, moment: Moment, body: dict[str, object], after: int) -> list[str] | None:
        """Names of what still runs after the client has left at that moment; None if there was nothing left to stop."""
        before = running_tasks()
        # One gate for all agents: nothing but the client's leaving can end their wait.
        never = anyio.Event()
        held = self.can_be_watched and self.long_prompt is None
        subject = self.subject((lambda agent: slow(agent, never, after=after)) if held else None)
        watched = self.watched(subject)
        call = Call(subject.target, self.chat(body))
        async with call:
            await moment(call, subject)
            if call.ended.is_set() or call.answer.complete:
                return None
            call.leave()
            stopped = await call.stopped(self.patience)
            left = await still_running(before, watched.runs if watched else [], self.patience if stopped else 0)
        return left if stopped else (left or ["the request"])

    async def _begun(self, call: Call, subject: Subject) -> None:
        watched = self.watched(subject)
        if watched is not None:
            await watched.begun()
        with anyio.move_on_after(self.settle):
            while await call.read():
                pass

    async def _said_something(self, call: Call, subject: Subject) -> None:
        await self._until(lambda answer: says_something(answer.deltas), call, subject)
        with anyio.move_on_after(self.settle):
            while await call.read():
                pass

    async def _being_written(self, call: Call, subject: Subject) -> None:
        await self._until(lambda answer: answer.status != 0, call, subject)
        with anyio.move_on_after(self.settle):
            await call.ended.wait()

    async def _until(self, seen: Callable[[Answer], bool], call: Call, subject: Subject) -> None:
        """Read until the client has seen it; where the agent has said it, the server gets no more than `patience`."""
        watched = self.watched(subject)
        if watched is not None:
            await (await watched.begun()).said(self.pieces_to_text)
        with anyio.move_on_after(self.patience if watched is not None else math.inf) as bound:
            while not seen(call.answer) and await call.read():
                pass
        if bound.cancelled_caught:
            skip(
                "the client has not got the first piece, so it cannot leave after it; "
                "`test_a_piece_is_sent_before_the_next_one_is_made` tells why"
            )
