"""Parked runs: their turn has ended, but the agent waits in place until a later request brings the answers.

The agent is an ordinary function with local variables, which cannot be serialized. So it waits in this process only, and
keeps its slot; the number of parked runs and their waiting time are limited.
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

if TYPE_CHECKING:  # AgentRun imports this module
    from .agent_run import AgentRun

PARKED_RUN = "openai_compat.parked_run"
"""The key of a parked run's id in the state that is stored with its pause."""

NOT_DECIDED = Decision(approved=False, reason="Nobody has decided in time.")
SHUT_DOWN = Decision(approved=False, reason="The server is shutting down.")


class _Parked(NamedTuple):
    run: AgentRun
    timer: Cancellable


class ParkedRuns:
    """The parked runs of one server.

    Args:
        most: maximum number of parked runs.
        seconds: maximum waiting time of each. After it, the questions are denied and the agent is stopped.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._parked: dict[str, _Parked] = {}

    def __len__(self) -> int:
        return len(self._parked)

    def park(self, run: AgentRun) -> str:
        """Keep a run until a request brings its answers. Returns its id.

        Raises AgentError (503 `too_many_waiting`) if `most` runs are parked.
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

        The process in which the run waits has ended, or is another one, which must get the decision.
        """
        for request in requests:
            identifier = None if request.resume is None else parked_run(request.resume)
            if identifier is not None and identifier not in self._parked:
                text = "The agent that has asked this waits in another process, or waits no longer."
                raise Conflict(text, code="run_lost", should_retry=False)

    def find(self, resume: Resume) -> AgentRun | None:
        """Return the run to resume; None if the agent is started again instead."""
        identifier = parked_run(resume)
        return None if identifier is None else self._parked[identifier].run

    def end_superseded(self, resume: Resume) -> None:
        """End the run that waits for a decision, if the user has sent another message instead."""
        if resume.superseded and resume.state is not None:
            parked = self._parked.get(resume.state.get(PARKED_RUN, ""))
            if parked is not None:
                # At once, so that its place is free for the next run.
                spawn_at_once(lambda: parked.run.give_up(SUPERSEDED), "end of a superseded run", lambda: None)

    def forget(self, identifier: str) -> None:
        """Remove a run that has been resumed or has ended."""
        self._parked.pop(identifier).timer.cancel()

    async def close(self) -> None:
        """Deny all questions, and stop the agents that asked them."""
        async with anyio.create_task_group() as group:
            for parked in list(self._parked.values()):
                group.start_soon(parked.run.give_up, SHUT_DOWN)

    async def _expire(self, identifier: str) -> None:
        run = self._parked[identifier].run
        # In a separate task: this one is the timer's, and is cancelled as soon as the run is forgotten.
        spawn(lambda: run.give_up(NOT_DECIDED), f"end of {identifier}", lambda: None)


def parked_run(resume: Resume) -> str | None:
    """Return the id of the run to resume. A superseded run is not resumed: the agent is started again."""
    return None if resume.state is None or resume.superseded else resume.state.get(PARKED_RUN)
