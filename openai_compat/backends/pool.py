"""Agents that are expensive to make, kept warm and lent to one turn at a time."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio

from ..agents.adapt import as_backend, close
from ..backend import AgentBackend, AgentRequest, Capabilities, RunContext
from ..events import AgentEvent
from ..optional_methods import SupportsCancel

__all__ = ("PooledBackend", "pooled")


def pooled(factory: Callable[[], Any], *, idle: int = 4, capabilities: Capabilities | None = None) -> PooledBackend:
    """A backend that has `factory` make its agents, and keeps up to `idle` of them for later turns.

    `factory` returns anything `as_backend` takes, or is a coroutine function that does. An agent is lent to one turn
    at a time; when none is idle, another is made. One whose turn failed or was cancelled is never lent again. Agents
    that are not kept are closed by their `aclose` or `close`, if they have one.

    Agents must not keep the conversation: the next turn is another's.

    Unless `capabilities` are given, or `factory` is a coroutine function, one agent is made at once, to look at its.
    Raises ValueError if `idle` is negative.
    """
    return PooledBackend(factory, idle=idle, capabilities=capabilities)


class PooledBackend:
    """Lends each of its agents to one turn at a time; see `pooled`."""

    def __init__(self, factory: Callable[[], Any], *, idle: int = 4, capabilities: Capabilities | None = None) -> None:
        if idle < 0:
            raise ValueError(f"idle is the number of agents kept, 0 or more, not {idle}")
        self._factory = factory
        self._most = idle
        self._idle: list[_Pooled] = []
        self._lent: dict[RunContext, _Pooled] = {}
        if capabilities is None and not inspect.iscoroutinefunction(factory):
            self._idle.append(_Pooled(factory()))
            capabilities = self._idle[0].backend.capabilities
        self.capabilities = capabilities or Capabilities()

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Lend an agent to this turn, and yield what it says."""
        agent = await self._take()
        # By context, since `request_cancel` knows nothing else of the turn.
        self._lent[context] = agent
        kept = False
        try:
            items = agent.backend.run(request, context)
            try:
                async for item in items:
                    yield item
            finally:
                await close(items)
            # An agent that was stopped half-way may hold half a conversation: it is closed instead.
            kept = not context.cancelled and self._keep(agent)
        finally:
            del self._lent[context]
            if not kept:
                await agent.close(context)

    def request_cancel(self, context: RunContext) -> None:
        """Tell the agent that runs this turn to stop, if it has a way of its own to do so."""
        lent = self._lent.get(context)
        if lent is not None and isinstance(lent.backend, SupportsCancel):
            lent.backend.request_cancel(context)

    async def aclose(self) -> None:
        """Close the agents that are idle. Those that run are closed when their turns end."""
        self._most = 0  # agents that are lent now are closed when they come back
        while self._idle:
            await self._idle.pop().close()

    async def _take(self) -> _Pooled:
        try:
            return self._idle.pop()
        except IndexError:
            agent = self._factory()
            return _Pooled(await agent if inspect.isawaitable(agent) else agent)

    def _keep(self, agent: _Pooled) -> bool:
        if len(self._idle) >= self._most:
            return False
        self._idle.append(agent)
        return True


class _Pooled:
    def __init__(self, agent: Any) -> None:
        self._agent = agent
        self.backend: AgentBackend = as_backend(agent)

    async def close(self, context: RunContext | None = None) -> None:
        """Close it by its own means; one that cannot be closed is reported, and no longer anybody's."""
        end = getattr(self._agent, "aclose", None) or getattr(self._agent, "close", None)
        if end is None:
            return
        try:
            # The turn may be cancelled already; a browser or a process left open would be nobody's.
            with anyio.CancelScope(shield=True):
                result = end()
                if inspect.isawaitable(result):
                    await result
        except Exception as error:
            if context is None:
                raise
            context.logger.warning("%s: a pooled agent could not be closed", context.request_id, exc_info=error)
