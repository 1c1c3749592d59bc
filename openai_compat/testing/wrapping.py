"""Agents around other agents: what fault injection and watching have in common."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import replace
from typing import Any, TypeAlias

from ..agents.adapt import Agent, as_backend, close
from ..backend import AgentBackend, AgentRequest, Capabilities, RunContext
from ..events import AgentEvent
from ..server import Server

Wrap: TypeAlias = Callable[[AgentBackend], AgentBackend]


class Wrapper:
    """A backend that runs another one. Subclasses override `run` and read the inner one within `items_of`."""

    def __init__(self, agent: Agent) -> None:
        self._inner = as_backend(agent)

    @property
    def capabilities(self) -> Capabilities:
        """Those of the agent inside."""
        return self._inner.capabilities

    def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Run the agent inside."""
        return self._inner.run(request, context)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_inner"], name)  # what only some agents have: `steer`, `tool_names`

    def request_cancel(self, context: RunContext) -> None:
        """Hand the wish to stop on to an agent that has a way of its own to do so."""
        ask = getattr(self._inner, "request_cancel", None)
        if ask is not None:
            ask(context)

    @asynccontextmanager
    async def items_of(
        self, request: AgentRequest, context: RunContext
    ) -> AsyncGenerator[AsyncIterator[AgentEvent | str]]:
        """The items of the agent inside, which is closed in the same task that read it, as the server would."""
        items: AsyncIterator[Any] = self._inner.run(request, context)
        try:
            yield items
        finally:
            await close(items)


def wrapped(server: Server, wrap: Wrap) -> Server:
    """The same server, policies, slots and all, with each of its agents wrapped. The given one stays as it is."""
    other = copy(server)
    agents = {name: wrap(agent) for name, agent in server.services.models.agents.items()}
    other.services = replace(server.services, models=replace(server.services.models, agents=agents))
    return other
