"""Seeing what an agent does: how often it ran, what it was asked, what it said, whether it has ended."""

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
        request: what the agent was asked.
        items: what it has said so far.
        error: what it raised, its cancellation included; None while it runs, and after a good end.
        ended: set once it is over and closed, whichever way.
    """

    def __init__(self, request: AgentRequest) -> None:
        self.request = request
        self.items: list[AgentEvent | str] = []
        self.error: BaseException | None = None
        self.ended = anyio.Event()
        self._more = anyio.Event()

    def add(self, item: AgentEvent | str) -> None:
        """Note what the agent says."""
        self.items.append(item)
        self._more.set()

    def end(self) -> None:
        """Note that it is over."""
        self.ended.set()
        self._more.set()

    async def said(self, count: int) -> None:
        """Return once it has said so many items, or is over."""
        while len(self.items) < count and not self.ended.is_set():
            self._more = anyio.Event()
            await self._more.wait()


class Watched(Wrapper):
    """An agent that can be looked at while it works; give it to a server in place of the agent.

    `runs` holds its runs, oldest first. Waiting for `Run.ended` belongs on the event loop the server runs on.
    """

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent)
        self.runs: list[Run] = []
        self._begun = anyio.Event()

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Run the agent, and keep what it says."""
        run = Run(request)
        self.runs.append(run)
        self._begun.set()
        try:
            async with self.items_of(request, context) as items:
                async for item in items:
                    run.add(item)
                    yield item
        except GeneratorExit:
            raise  # closed by its reader, which is no failure
        except BaseException as error:
            run.error = error
            raise
        finally:
            run.end()

    async def begun(self) -> Run:
        """The first run, once there is one."""
        await self._begun.wait()
        return self.runs[0]
