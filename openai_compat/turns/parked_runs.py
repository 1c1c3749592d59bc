"""Runs whose turn has ended, and whose agent waits where it is until a later request brings what it has asked for.

Such an agent is an ordinary function with its variables: nothing of it can be written down. So it waits in this process
alone, keeps its slot, and only so many may wait, for so long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import anyio

from ..agent_request import AgentRequest, Decision, Resume
from ..aio.background import Cancellable, spawn, spawn_at_once, spawn_later
from ..errors import AgentError, Conflict
from ..state.approvals import SUPERSEDED
from ..state.ids import new_id

if TYPE_CHECKING:  # which parks itself here
    from .agent_run import AgentRun

RUN = "openai_compat.parked_run"
"""The key of a parked run's id in the state that its pause is stored with."""

NOT_DECIDED = Decision(approved=False, reason="Nobody has decided in time.")
SHUT_DOWN = Decision(approved=False, reason="The server is shutting down.")


class _Parked(NamedTuple):
    run: AgentRun
    timer: Cancellable


class ParkedRuns:
    """The parked runs of one server.

    Args:
        most: how many may wait at once.
        seconds: how long each may wait. Its questions are denied then, and it is stopped.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._parked: dict[str, _Parked] = {}

    def __len__(self) -> int:
        return len(self._parked)

    def park(self, run: AgentRun) -> str:
        """Keep a run for the request that brings what it waits for. Returns its id.

        Raises AgentError (503 `too_many_waiting`) if all places are taken.
        """
        if len(self._parked) >= self._most:
            text = f"Too many agents wait for an answer: at most {self._most} may at once (Limits.parked)."
            raise AgentError(text, status=503, code="too_many_waiting")
        identifier = new_id("run_")
        timer = spawn_later(self._seconds, lambda: self._expire(identifier), f"parked {identifier}")
        self._parked[identifier] = _Parked(run, timer)
        return identifier

    def check(self, requests: Sequence[AgentRequest]) -> None:
        """Raise Conflict (409 `run_lost`) if one of the requests resumes a run that is not parked here.

        The process that it waits in has ended, or is another one: what was decided is to be sent there.
        """
        for request in requests:
            identifier = None if request.resume is None else parked_run(request.resume)
            if identifier is not None and identifier not in self._parked:
                text = "The agent that has asked this waits in another process, or waits no longer."
                raise Conflict(text, code="run_lost", should_retry=False)

    def find(self, resume: Resume) -> AgentRun | None:
        """The run that is to go on; None if the agent is asked anew."""
        identifier = parked_run(resume)
        return None if identifier is None else self._parked[identifier].run

    def end_superseded(self, resume: Resume) -> None:
        """End the run that waits for a decision, where the user has sent another message instead."""
        if resume.superseded and resume.state is not None:
            parked = self._parked.get(resume.state.get(RUN, ""))
            if parked is not None:
                # At once: its place is free for the one that may wait next.
                spawn_at_once(lambda: parked.run.give_up(SUPERSEDED), "end of a superseded run", lambda: None)

    def forget(self, identifier: str) -> None:
        """A run is parked no longer: it goes on, or has ended."""
        self._parked.pop(identifier).timer.cancel()

    async def close(self) -> None:
        """Deny all questions, and stop the agents that have asked them."""
        async with anyio.create_task_group() as group:
            for parked in list(self._parked.values()):
                group.start_soon(parked.run.give_up, SHUT_DOWN)

    async def _expire(self, identifier: str) -> None:
        run = self._parked[identifier].run
        # In a task of its own: the timer's, which this is, is cancelled as soon as the run is forgotten.
        spawn(lambda: run.give_up(NOT_DECIDED), f"end of {identifier}", lambda: None)


def parked_run(resume: Resume) -> str | None:
    """The id of the run that is to go on. One that is superseded is not to: the agent is asked anew."""
    return None if resume.state is None or resume.superseded else resume.state.get(RUN)
