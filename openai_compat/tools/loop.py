"""The tool loop: lets a bare model call the agent's own tools, until it has nothing more to call.

    ask the model ──> it calls tools ──> run ours, all at once ──> give it the results ──┐
        ^                                                                              │
        └──────────────────────────────────────────────────────────────────────────────┘

Calls of the client's tools pause the turn, as those of any agent do; so do calls that wait for approval. What the loop has
done by then is its state.
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
"""How often a turn may run tools."""


class ToolLoop:
    """Makes an agent of a bare model and tools; the model may call the client's tools as well.

    The names of the agent's tools are its own: a request that offers a tool by one of them is refused (400
    `tool_name_taken`). Where a request demands a call of
    the client's tools (`tool_choice`), the agent's are not offered.

    A request may have further fields for it: `security_mode`, which tightens what may run; `max_steps` (answers
    of the model) and `max_budget` (tokens), which bound the turn; and `report_steps`, true to be told of each answer of the model as `Progress`.

    Args:
        model: the backend that asks the model; it has to be able to call tools.
        tools: a Toolbox, or what one is made of: functions, AgentTools, MCP servers.
        roundtrips: how often a turn may run tools. Then it ends with a notice, and the finish reason "length".
        budget: tokens, of input and output together, after which a turn runs no more tools; None for no bound.
        most_roundtrips: up to how many a request may ask for, by `max_steps`; None for no more than `roundtrips`.
        security: what may run without a question: a mode for this agent, or Modes. Without it, everything that is not
            safe is asked about.
        approver: whom to ask. Without one, what is asked about is denied.
        grants: where it is kept what people have allowed for always; in the server's store unless told, and in memory
            where no server runs it.
        sandbox: where the mode "sandbox" runs commands.

    Raises TypeError for a model that cannot call tools, ValueError for settings that make no sense.
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
        self._of_model: Capabilities | None = None
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
        """The model's, and its own tools."""
        can = self._model.capabilities
        # Asked for several times in each request; the model's are another object once they have changed.
        if can is not self._of_model:
            self._capabilities = replace(
                can,
                own_tools=can.own_tools | self.tools.names,
                approvals="edit",
                security_modes=True,
                keeps_state=True,
                state_version=0,  # of the loop's own state: a model behind it has none
            )
            self._of_model = can
        return self._capabilities

    def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Ask the model, run what it calls, and ask again."""
        return LoopTurn(self._settings, request, context).run()

    async def tool_names(self, request: AgentRequest) -> frozenset[str]:
        """The names of all its tools, those of sources too that can be reached now."""
        return frozenset((await self.tools.listing()).tools)

    def request_cancel(self, context: RunContext) -> None:
        """Tell the model's backend to stop, if it has a way of its own to do so."""
        if isinstance(self._model, SupportsCancel):
            self._model.request_cancel(context)

    async def aclose(self) -> None:
        """Close the model's backend and the sources of tools."""
        try:
            if isinstance(self._model, SupportsClose):
                await self._model.aclose()
        finally:
            await self.tools.aclose()
