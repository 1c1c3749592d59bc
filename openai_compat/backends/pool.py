"""Pools of warm agents that are expensive to make, each lent to one turn at a time: shared, or one per session."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import anyio

from ..agent_request import AgentRequest
from ..agents.adapt import as_backend, close
from ..aio.background import Cancellable, spawn, spawn_later
from ..backend import AgentBackend, Capabilities, RunContext, SupportsCancel
from ..events import AgentEvent, Finished, Paused

logger = logging.getLogger("openai_compat")

__all__ = ("KeyedBackend", "PooledBackend", "keyed", "pooled")


def pooled(factory: Callable[[], Any], *, idle: int = 4, capabilities: Capabilities | None = None) -> PooledBackend:
    """Make a backend that gets its agents from `factory` and keeps up to `idle` of them for later turns.

    `factory` returns anything `as_backend` accepts, or is a coroutine function that does. An agent is lent to one turn
    at a time; if none is idle, another is made. An agent whose turn failed or was cancelled is never lent again. Agents
    that are not kept are closed by their `aclose` or `close` method, if any.

    Agents must not remember the conversation: their next turn may belong to another client.

    Unless `capabilities` are given or `factory` is a coroutine function, one agent is made at once, to read its
    capabilities. Raises ValueError if `idle` is negative.
    """
    return PooledBackend(factory, idle=idle, capabilities=capabilities)


class _AgentLender:
    """Lends each of its agents to one turn at a time. Subclasses decide how agents are made and kept."""

    def __init__(self, capabilities: Capabilities) -> None:
        self.capabilities = capabilities
        self._running: dict[RunContext, _WarmAgent] = {}

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Lend an agent to this turn, and yield its events."""
        agent = await self._acquire(request)
        # By context, since `request_cancel` gets nothing else of the turn.
        self._running[context] = agent
        last_state: Mapping[str, Any] | None = None
        is_kept = False
        try:
            items = agent.backend.run(request, context)
            try:
                async for item in items:
                    if isinstance(item, Finished | Paused):
                        last_state = item.state
                    yield item
            finally:
                await close(items)
            # Close an agent that was stopped half-way: it may hold half a conversation.
            is_kept = not context.cancelled and self._keep(request, agent, last_state)
        finally:
            del self._running[context]
            if not is_kept:
                await agent.close(context)

    def request_cancel(self, context: RunContext) -> None:
        """Tell the agent of this turn to stop, if the agent supports cancellation."""
        agent = self._running.get(context)
        if agent is not None and isinstance(agent.backend, SupportsCancel):
            agent.backend.request_cancel(context)

    async def _acquire(self, request: AgentRequest) -> _WarmAgent:
        raise NotImplementedError

    def _keep(self, request: AgentRequest, agent: _WarmAgent, last_state: Mapping[str, Any] | None) -> bool:
        """Keep the agent, whose turn ended with `last_state`; False if there is no room."""
        raise NotImplementedError


class PooledBackend(_AgentLender):
    """Lends each of its agents to one turn at a time; see `pooled`."""

    def __init__(self, factory: Callable[[], Any], *, idle: int = 4, capabilities: Capabilities | None = None) -> None:
        if idle < 0:
            raise ValueError(f"idle is the number of agents kept, 0 or more, not {idle}")
        self._factory = factory
        self._max_idle = idle
        self._idle: list[_WarmAgent] = []
        if capabilities is None and not inspect.iscoroutinefunction(factory):
            self._idle.append(_WarmAgent(factory()))
            capabilities = self._idle[0].backend.capabilities
        super().__init__(capabilities or Capabilities())

    async def aclose(self) -> None:
        """Close the agents that are idle. Those that run are closed when their turns end."""
        self._max_idle = 0  # agents that are lent now are closed when returned
        while self._idle:
            await self._idle.pop().close()

    async def _acquire(self, request: AgentRequest) -> _WarmAgent:
        try:
            return self._idle.pop()
        except IndexError:
            agent = self._factory()
            return _WarmAgent(await agent if inspect.isawaitable(agent) else agent)

    def _keep(self, request: AgentRequest, agent: _WarmAgent, last_state: Mapping[str, Any] | None) -> bool:
        if len(self._idle) >= self._max_idle:
            return False
        self._idle.append(agent)
        return True


def keyed(
    make: Callable[[AgentRequest], Any],
    *,
    key: Callable[[AgentRequest], str | None] = lambda request: request.session_key,
    idle: int = 32,
    seconds: float = 600.0,
    capabilities: Capabilities | None = None,
) -> KeyedBackend:
    """Make a backend with a warm agent for each session, for agents that hold one conversation and are slow to start.

    `make` gets the request of a session's first turn and returns anything `as_backend` accepts, or is a coroutine
    function that does. The agent then gets the session's later turns, one at a time, so it needs only their
    `request.new_messages`. A new agent is made, from `request.state`, if the old one is gone: the session was idle for
    `seconds`, more than `idle` other sessions were used since, a turn failed or was stopped, or the agent was in another
    process. The same happens if the conversation continues from another state than the agent's last `Finished.state` or
    `Paused.state`.

    Args:
        make: makes the agent.
        key: returns the session of a request; with None, an agent is made for that turn only.
        idle: maximum number of idle agents that are kept.
        seconds: how long an agent is kept between two turns.
        capabilities: the capabilities of the agents; all of them by default.

    Raises ValueError if `idle` or `seconds` is negative.
    """
    return KeyedBackend(make, key=key, idle=idle, seconds=seconds, capabilities=capabilities)


class KeyedBackend(_AgentLender):
    """Lends each session the agent of its earlier turns; see `keyed`."""

    def __init__(
        self,
        make: Callable[[AgentRequest], Any],
        *,
        key: Callable[[AgentRequest], str | None],
        idle: int,
        seconds: float,
        capabilities: Capabilities | None,
    ) -> None:
        if idle < 0 or seconds < 0:
            raise ValueError(f"idle and seconds are 0 or more, not {idle} and {seconds}")
        self._make = make
        self._key = key
        self._max_idle = idle
        self._seconds = seconds
        self._idle: dict[str, _IdleAgent] = {}  # least recently used first
        super().__init__(capabilities or Capabilities())

    async def aclose(self) -> None:
        """Close the agents that are idle. Those that run are closed when their turns end."""
        self._max_idle = 0
        while self._idle:
            await self._pop_idle(next(iter(self._idle))).close()

    async def _acquire(self, request: AgentRequest) -> _WarmAgent:
        key = self._key(request)
        session = None if key is None else self._idle.get(key)
        if key is not None and session is not None:
            agent = self._pop_idle(key)
            if session.last_state == request.state:
                return agent
            await agent.close()  # after a fork or a turn elsewhere, its conversation is another one
        new_agent = self._make(request)
        return _WarmAgent(await new_agent if inspect.isawaitable(new_agent) else new_agent)

    def _keep(self, request: AgentRequest, agent: _WarmAgent, last_state: Mapping[str, Any] | None) -> bool:
        key = self._key(request)
        # Two concurrent turns of one session had an agent each: one is enough.
        if key is None or key in self._idle or not self._max_idle:
            return False
        if len(self._idle) >= self._max_idle:
            self._close_soon(next(iter(self._idle)))
        timer = spawn_later(self._seconds, lambda: self._expire(key), "warm agent that nobody needs")
        self._idle[key] = _IdleAgent(agent, last_state, timer)
        return True

    def _pop_idle(self, key: str) -> _WarmAgent:
        session = self._idle.pop(key)
        session.timer.cancel()
        return session.agent

    def _close_soon(self, key: str) -> None:
        agent = self._pop_idle(key)
        spawn(agent.close_quietly, "end of a warm agent", lambda: None)

    async def _expire(self, key: str) -> None:
        # Not in this task: it is the timer's, which `_pop_idle` cancels.
        self._close_soon(key)


class _IdleAgent:
    def __init__(self, agent: _WarmAgent, last_state: Mapping[str, Any] | None, timer: Cancellable) -> None:
        self.agent = agent
        self.last_state = last_state
        self.timer = timer


class _WarmAgent:
    def __init__(self, agent: Any) -> None:
        self._agent = agent
        self.backend: AgentBackend = as_backend(agent)

    async def close_quietly(self) -> None:
        """Close the agent in a background task, which must not fail."""
        try:
            await self.close()
        except Exception:
            logger.warning("a warm agent could not be closed", exc_info=True)

    async def close(self, context: RunContext | None = None) -> None:
        """Close the agent by its `aclose` or `close`; with a `context`, a failure is only logged."""
        end = getattr(self._agent, "aclose", None) or getattr(self._agent, "close", None)
        if end is None:
            return
        try:
            # Shielded, since the turn may be cancelled: an open browser or process would leak.
            with anyio.CancelScope(shield=True):
                result = end()
                if inspect.isawaitable(result):
                    await result
        except Exception as error:
            if context is None:
                raise
            context.logger.warning("%s: a pooled agent could not be closed", context.request_id, exc_info=error)
