"""Wrappers around agents, as used for fault injection and for watching."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import replace
from typing import Any, TypeAlias

from ..agent_request import AgentRequest
from ..agents.adapt import Agent, as_backend, close
from ..backend import AgentBackend, Capabilities, RunContext, offer_methods_of
from ..events import AgentEvent
from ..server import Server

Wrap: TypeAlias = Callable[[AgentBackend], AgentBackend]


class Wrapper:
    """A backend that runs another one and offers the same optional methods (`request_cancel`, `steer` …).

    Subclasses override `run` and read the wrapped agent within `items_of`.
    """

    def __init__(self, agent: Agent) -> None:
        self._inner = as_backend(agent)
        offer_methods_of(self._inner, self)

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the wrapped agent."""
        return self._inner.capabilities

    def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Run the wrapped agent unchanged; subclasses override this."""
        return self._inner.run(request, context)

    @asynccontextmanager
    async def items_of(
        self, request: AgentRequest, context: RunContext
    ) -> AsyncGenerator[AsyncIterator[AgentEvent | str]]:
        """The items of the wrapped agent, which is closed in the task that read it, as the server would do."""
        items: AsyncIterator[Any] = self._inner.run(request, context)
        try:
            yield items
        finally:
            await close(items)


def wrap_agents(server: Server, wrap: Wrap) -> Server:
    """A copy of the server, with the same policies and slots, and each agent wrapped. The given server is unchanged."""
    other = copy(server)
    agents = {name: wrap(agent) for name, agent in server.services.models.agents.items()}
    other.services = replace(server.services, models=replace(server.services.models, agents=agents))
    return other
