"""The tool loop: lets a model call the agent's tools, until it makes no more calls.

    ask the model ──> it calls tools ──> run ours, all at once ──> give it the results ──┐
        ^                                                                              │
        └──────────────────────────────────────────────────────────────────────────────┘

Calls of the client's tools pause the turn, as in any agent; so do calls that wait for approval. The state of the pause
holds the loop's work so far.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from typing import Any

from ..agent_request import AgentRequest
from ..agents.adapt import Agent, as_backend
from ..agents.describe import describe
from ..backend import Capabilities, RunContext, SupportsCancel, SupportsClose
from ..events import AgentEvent
from .approvals import Approver, Grants, MemoryGrants
from .loop_turn import LoopLimits, LoopSettings, LoopTurn
from .modes import Modes, SecurityMode
from .registry import AgentTool, Toolbox, ToolSource
from .sandbox import Sandbox

ROUNDTRIPS = 5
"""Maximum number of times that a turn runs tools."""


class ToolLoop:
    """Makes an agent from a bare model and tools; the model may also call the client's tools.

    The names of the agent's tools are reserved: a request that offers a tool of the same name is refused (400
    `tool_name_taken`). If a request demands a call of the client's tools (`tool_choice`), the agent's are not offered.

    A request may have further fields for the loop: `security_mode`, which restricts what may run; `max_steps` (answers of
    the model) and `max_budget` (tokens), which bound the turn; and `report_steps`, true to get `Progress` for each answer of
    the model.

    Args:
        model: the backend of the model; it must be able to call tools.
        tools: a Toolbox, or its contents: functions, AgentTools, MCP servers.
        roundtrips: maximum number of times that a turn runs tools; then it ends with a notice and finish reason "length".
        budget: tokens, input and output together, after which a turn runs no more tools; None for no bound.
        most_roundtrips: upper bound of what a request may ask for with `max_steps`; None for `roundtrips`.
        security: decides which tools run without approval: a mode for this agent, or Modes. By default every tool that is not
            safe needs approval.
        approver: asks for approvals. Without an approver, calls that need approval are denied.
        grants: storage of always-allow grants; by default the server's store, or memory outside a server.
        sandbox: runs the commands in the mode "sandbox".

    Raises TypeError for a model that cannot call tools, ValueError for contradictory settings.
    """

    def __init__(
        self,
        model: Agent,
        tools: Toolbox | Iterable[Callable[..., Any] | AgentTool | ToolSource] = (),
        *,
        roundtrips: int = ROUNDTRIPS,
        budget: int | None = None,
        most_roundtrips: int | None = None,
        security: Modes | SecurityMode | None = None,
        approver: Approver | None = None,
        grants: Grants | None = None,
        sandbox: Sandbox | None = None,
    ) -> None:
        self._model = as_backend(model)
        if not self._model.capabilities.client_tools:
            raise TypeError(f"{describe(model)} does not declare that it can call tools")
        self.tools = tools if isinstance(tools, Toolbox) else Toolbox(tools)
        self._model_capabilities: Capabilities | None = None
        self._capabilities = Capabilities()
        self._settings = LoopSettings(
            model=self._model,
            tools=self.tools,
            limits=LoopLimits(roundtrips, budget, most_roundtrips),
            modes=security if isinstance(security, Modes) else Modes(agent=security),
            approver=approver,
            grants=grants,
            own_grants=MemoryGrants(),
            sandbox=sandbox,
        )

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the model, and the loop's own tools."""
        can = self._model.capabilities
        # Read several times per request; the model's capabilities are a new object once they have changed.
        if can is not self._model_capabilities:
            self._capabilities = replace(
                can,
                own_tools=can.own_tools | self.tools.names,
                approvals="edit",
                security_modes=True,
                keeps_state=True,
                state_version=0,  # of the loop's own state: the model's backend leaves none
            )
            self._model_capabilities = can
        return self._capabilities

    def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Ask the model, run its calls, and repeat."""
        return LoopTurn(self._settings, request, context).run()

    async def tool_names(self, request: AgentRequest) -> frozenset[str]:
        """Return the names of all its tools, including those of reachable sources."""
        return frozenset((await self.tools.listing()).tools)

    def request_cancel(self, context: RunContext) -> None:
        """Pass the cancellation on to the model's backend, if it supports that."""
        if isinstance(self._model, SupportsCancel):
            self._model.request_cancel(context)

    async def aclose(self) -> None:
        """Close the model's backend and the sources of tools."""
        try:
            if isinstance(self._model, SupportsClose):
                await self._model.aclose()
        finally:
            await self.tools.aclose()
