"""An agent with fallbacks for when its model is unavailable."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from ..agent_request import AgentRequest
from ..agents.adapt import close
from ..agents.error_mapping import to_public_error
from ..backend import AgentBackend, Capabilities, RunContext, SupportsCancel, SupportsClose
from ..events import AgentEvent, Progress, UsageReported

COOLDOWN = 60.0
"""Seconds for which a failed agent is passed over while another one is available."""

UPSTREAM_CODES = frozenset(
    {"upstream_timeout", "upstream_unreachable", "upstream_unavailable", "upstream_auth", "provider_not_configured"}
)
"""Error codes of failures that another model may not have."""


class Fallback:
    """Asks the first available agent, in order.

    The next agent takes over only before any output, and only if the model behind the agent is at fault: down,
    overloaded, over its rate limit, or refusing the key. The client gets a `Progress` of the kind "fallback", whose data
    has `from`, `to`, `reason` and `ignored`: the parameters of the request that the new agent does not pass on.

    Args:
        agents: backends by name, the preferred one first.
        cooldown: seconds for which a failed agent is passed over.
    """

    def __init__(self, agents: Mapping[str, AgentBackend], cooldown: float = COOLDOWN) -> None:
        if not agents:
            raise ValueError("a fallback needs at least one agent")
        self._agents = dict(agents)
        self._cooldown = cooldown
        self._failed: dict[str, float] = {}
        self._cached: tuple[Capabilities, list[Capabilities], Capabilities] | None = None

    @property
    def capabilities(self) -> Capabilities:
        """The preferred agent's capabilities, with the own tools of all agents and only the limits that all can keep.

        The parameters are those of the agent that is asked first now, so none is reported as ignored on account of another.
        """
        first = self._agents[self._order[0]].capabilities
        each = [agent.capabilities for agent in self._agents.values()]
        if self._cached is None or self._cached[:2] != (first, each):  # read several times per request
            self._cached = (first, each, _common_capabilities(each, first.parameters))
        return self._cached[2]

    @property
    def cooling(self) -> list[str]:
        """Names of the agents that are passed over now."""
        now = time.monotonic()
        return [name for name, since in self._failed.items() if now - since < self._cooldown]

    @property
    def _order(self) -> list[str]:
        cooling = self.cooling
        # Cooling agents come last: if all others fail, a cooling one may work again.
        return [*[n for n in self._agents if n not in cooling], *[n for n in self._agents if n in cooling]]

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Ask the agents, one after another, until one answers."""
        names = self._order
        for name, following in zip(names, [*names[1:], None], strict=True):
            has_output = False
            items = self._agents[name].run(request, context)
            try:
                async for item in items:
                    # Sent text cannot be taken back, so no other agent may start over. Usage and empty text are
                    # invisible.
                    has_output = has_output or not (item == "" or isinstance(item, UsageReported))
                    yield item
                self._failed.pop(name, None)  # it works again
                return
            except Exception as error:
                reason = to_public_error(error)
                if reason.code not in UPSTREAM_CODES and reason.status != 429:
                    raise
                self._failed[name] = time.monotonic()
                if has_output or following is None:
                    raise
                text = f"{name} cannot be used now; {following} takes over."
                ignored = sorted(self._agents[following].capabilities.ignored(request.sampling))
                data = {"from": name, "to": following, "reason": reason.code, "ignored": ignored}
                yield Progress("fallback", following, text, done=True, data=data)
            finally:
                # Close in the task that opened the run: its task groups and context variables break in another task.
                await close(items)

    def request_cancel(self, context: RunContext) -> None:
        """Pass the cancellation on to all agents; at most one of them runs this turn."""
        for agent in self._agents.values():
            if isinstance(agent, SupportsCancel):
                agent.request_cancel(context)

    async def aclose(self) -> None:
        """Close the agents that have `aclose`."""
        for agent in self._agents.values():
            if isinstance(agent, SupportsClose):
                await agent.aclose()


def _common_capabilities(each: Sequence[Capabilities], parameters: frozenset[str] | None) -> Capabilities:
    # Any agent may take over, so a client must offer no tool with the name of any agent's own tool.
    own = frozenset[str]().union(*[can.own_tools for can in each])
    modes = all([can.security_modes for can in each])
    # Agents that never ask for approval get no decisions, so they cannot lose edited arguments.
    asking = {can.approvals for can in each} - {"none"}
    approvals: Literal["none", "yes_no", "edit"] = "yes_no" if "yes_no" in asking else "edit" if asking else "none"
    return replace(each[0], own_tools=own, approvals=approvals, security_modes=modes, parameters=parameters)
