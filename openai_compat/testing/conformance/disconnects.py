"""Checks of clients that disconnect: the agent stops, whatever it was doing."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio

from ..answer import Answer
from ..client_call import Call
from ..faults import slow
from ..subject import Subject, leftover_tasks, running_tasks
from .base import Examination, expect, skip
from .streams import has_output

Moment: TypeAlias = Callable[[Call, Subject], Awaitable[None]]


class DisconnectChecks(Examination):
    """Checks of an agent whose client disconnects, at four moments."""

    def test_the_agent_stops_when_the_client_leaves_a_plain_request(self) -> None:
        """The agent stops when the client disconnects from a plain request.

        To fix: wait for `http.disconnect` while the agent works, even if nothing is sent yet, and cancel the agent's task.
        """
        self._expect_agent_stops(
            self._wait_for_start, stream=False, after=self.pieces_to_text if self.pieces > self.pieces_to_text else 0
        )

    def test_the_agent_stops_when_the_client_leaves_before_the_first_piece(self) -> None:
        """The agent stops when the client disconnects before the first piece.

        A client may disconnect while the agent is still thinking. To fix: wait for `http.disconnect` meanwhile, instead of
        noticing it at the first write.
        """
        self._expect_agent_stops(self._wait_for_start, stream=True)

    def test_the_agent_stops_when_the_client_leaves_between_two_pieces(self) -> None:
        """The agent stops when the client disconnects between two pieces.

        This is the most common case: a user presses Stop. The cancellation must reach the agent at its current `await`.
        To fix: in the agent, do not catch CancelledError and GeneratorExit, and cancel the tasks that you started in a
        `finally`.
        """
        self._expect_agent_stops(self._wait_for_text, stream=True, after=self.pieces_to_text)

    def test_the_agent_stops_when_the_client_leaves_while_a_piece_is_written(self) -> None:
        """The agent stops when the client disconnects while a piece is being written.

        A client that does not read blocks the writer. To fix: notice the disconnect during the write, not after it.
        """
        self._expect_agent_stops(self._wait_for_write, stream=True, after=self.pieces_to_text)

    def _expect_agent_stops(self, moment: Moment, *, stream: bool, after: int = 0) -> None:
        __tracebackhide__ = True
        body = self.body(self.long_prompt or self.prompt, stream=stream)
        self.plain  # noqa: B018  (requested first, so that tasks that stay after a first request are not counted)
        left = self.run(lambda: self._find_leftover_tasks(moment, body, after))
        if left is None:
            skip("the answer was complete before the client could leave; set a `long_prompt` that takes longer")
        expect(not left, f"{self.patience:g} s after the client left there still runs: {', '.join(left)}")

    async def _find_leftover_tasks(self, moment: Moment, body: dict[str, object], after: int) -> list[str] | None:
        """Names of tasks that still run after the client has disconnected at `moment`; None if the answer had already ended."""
        before = running_tasks()
        # One gate for all agents: only the client's disconnect can end their wait.
        never = anyio.Event()
        held = self.can_be_watched and self.long_prompt is None
        subject = self.subject((lambda agent: slow(agent, never, after=after)) if held else None)
        watched = self.watched(subject)
        call = Call(subject.target, self.chat(body))
        async with call:
            await moment(call, subject)
            if call.ended.is_set() or call.answer.complete:
                return None
            call.disconnect()
            stopped = await call.has_stopped_within(self.patience)
            left = await leftover_tasks(before, watched.runs if watched else [], self.patience if stopped else 0)
        return left if stopped else (left or ["the request"])

    async def _wait_for_start(self, call: Call, subject: Subject) -> None:
        watched = self.watched(subject)
        if watched is not None:
            await watched.begun()
        with anyio.move_on_after(self.settle):
            while await call.read():
                pass

    async def _wait_for_text(self, call: Call, subject: Subject) -> None:
        await self._read_until(lambda answer: has_output(answer.deltas), call, subject)
        with anyio.move_on_after(self.settle):
            while await call.read():
                pass

    async def _wait_for_write(self, call: Call, subject: Subject) -> None:
        await self._read_until(lambda answer: answer.status != 0, call, subject)
        with anyio.move_on_after(self.settle):
            await call.ended.wait()

    async def _read_until(self, seen: Callable[[Answer], bool], call: Call, subject: Subject) -> None:
        """Read until `seen(answer)` is true; once the agent has sent its first text, the server has `patience` seconds."""
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
