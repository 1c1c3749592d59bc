"""An agent that has others to take its place when the model behind it cannot be used."""

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
"""Seconds for which an agent that could not be used is not asked again while there is another."""

UPSTREAM = frozenset(
    {"upstream_timeout", "upstream_unreachable", "upstream_unavailable", "upstream_auth", "provider_not_configured"}
)
"""Failures that another model may not have."""


class Fallback:
    """Asks the first agent that can be used, in order.

    Another one takes over only before anything was said, and only where the model behind the agent is at fault: it is
    down, overloaded, over its rate limit, or refuses the key. That is told as `Progress` of the kind "fallback", with
    `from`, `to` and `reason` in its data, and `ignored`: the parameters of the request that this one does not pass on.

    Args:
        agents: backends by name, the preferred one first.
        cooldown: seconds for which one that failed is passed over.
    """

    def __init__(self, agents: Mapping[str, AgentBackend], cooldown: float = COOLDOWN) -> None:
        if not agents:
            raise ValueError("a fallback needs at least one agent")
        self._agents = dict(agents)
        self._cooldown = cooldown
        self._failed: dict[str, float] = {}
        self._known: tuple[Capabilities, list[Capabilities], Capabilities] | None = None

    @property
    def capabilities(self) -> Capabilities:
        """Those of the preferred one, the own tools of all, and bounds that all of them obey.

        The parameters are those of the one that is asked first now: nothing is told as ignored because another one would.
        """
        first = self._agents[self._order[0]].capabilities
        each = [agent.capabilities for agent in self._agents.values()]
        if self._known is None or self._known[:2] != (first, each):  # asked for several times with each request
            self._known = (first, each, _common(each, first.parameters))
        return self._known[2]

    @property
    def cooling(self) -> list[str]:
        """Names of those that are passed over now."""
        now = time.monotonic()
        return [name for name, since in self._failed.items() if now - since < self._cooldown]

    @property
    def _order(self) -> list[str]:
        cooling = self.cooling
        # Those that cool down come last, not never: if all others fail, one of them may be well again.
        return [*[n for n in self._agents if n not in cooling], *[n for n in self._agents if n in cooling]]

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Ask them, one after another."""
        names = self._order
        for name, following in zip(names, [*names[1:], None], strict=True):
            said = False
            items = self._agents[name].run(request, context)
            try:
                async for item in items:
                    # Text that is out cannot be taken back, so no other agent may begin anew. Usage and empty text
                    # show nothing.
                    said = said or not (item == "" or isinstance(item, UsageReported))
                    yield item
                self._failed.pop(name, None)  # it is well again
                return
            except Exception as error:
                reason = to_public_error(error)
                if reason.code not in UPSTREAM and reason.status != 429:
                    raise
                self._failed[name] = time.monotonic()
                if said or following is None:
                    raise
                text = f"{name} cannot be used now; {following} takes over."
                ignored = sorted(self._agents[following].capabilities.ignored(request.sampling))
                data = {"from": name, "to": following, "reason": reason.code, "ignored": ignored}
                yield Progress("fallback", following, text, done=True, data=data)
            finally:
                # In the task that has opened it: task groups and context variables inside break in another.
                await close(items)

    def request_cancel(self, context: RunContext) -> None:
        """Pass it on to all; only one of them runs."""
        for agent in self._agents.values():
            if isinstance(agent, SupportsCancel):
                agent.request_cancel(context)

    async def aclose(self) -> None:
        """Close those that can be closed."""
        for agent in self._agents.values():
            if isinstance(agent, SupportsClose):
                await agent.aclose()


def _common(each: Sequence[Capabilities], parameters: frozenset[str] | None) -> Capabilities:
    # Whoever takes over has its own tools: a client must offer none by any of their names.
    own = frozenset[str]().union(*[can.own_tools for can in each])
    modes = all([can.security_modes for can in each])
    # One that never asks gets no decision, and so cannot lose what is changed in it.
    asking = {can.approvals for can in each} - {"none"}
    approvals: Literal["none", "yes_no", "edit"] = "yes_no" if "yes_no" in asking else "edit" if asking else "none"
    return replace(each[0], own_tools=own, approvals=approvals, security_modes=modes, parameters=parameters)
