"""Observes an agent: how often it ran, its requests, its output, and the end of each run."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio

from ..agent_request import AgentRequest
from ..agents.adapt import Agent
from ..backend import RunContext
from ..events import AgentEvent
from .wrapping import Wrapper


class Run:
    """One run of a watched agent.

    Attributes:
        request: the request to the agent.
        items: the agent's output so far.
        error: the exception that the agent raised, including its cancellation; None while it runs, and after a success.
        ended: set once the run is over and closed, however it ended.
    """

    def __init__(self, request: AgentRequest) -> None:
        self.request = request
        self.items: list[AgentEvent | str] = []
        self.error: BaseException | None = None
        self.ended = anyio.Event()
        self._more = anyio.Event()

    def add(self, item: AgentEvent | str) -> None:
        """Record an item of the agent's output."""
        self.items.append(item)
        self._more.set()

    def end(self) -> None:
        """Mark the run as ended."""
        self.ended.set()
        self._more.set()

    async def said(self, count: int) -> None:
        """Return once the run has produced `count` items, or is over."""
        while len(self.items) < count and not self.ended.is_set():
            self._more = anyio.Event()
            await self._more.wait()


class Watched(Wrapper):
    """An agent that can be observed while it works; pass it to a server in place of the agent.

    `runs` holds its runs, oldest first. `Run.ended` must be awaited on the event loop that the server runs on.
    """

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent)
        self.runs: list[Run] = []
        self._begun = anyio.Event()

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Run the agent, and record its output."""
        run = Run(request)
        self.runs.append(run)
        self._begun.set()
        try:
            async with self.items_of(request, context) as items:
                async for item in items:
                    run.add(item)
                    yield item
        except GeneratorExit:
            raise  # closed by its reader, which is not a failure
        except BaseException as error:
            run.error = error
            raise
        finally:
            run.end()

    async def begun(self) -> Run:
        """The first run, once it has begun."""
        await self._begun.wait()
        return self.runs[0]
