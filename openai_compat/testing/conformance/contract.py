"""Checks of the event contract: an agent's events are well-formed and in order, and each call has its own id."""

from __future__ import annotations

from functools import partial

from ...errors import AgentError
from ...events import AgentEvent, Finished, Paused
from ...turns.event_contract import BROKEN, EventContract
from ..subject import ObservedExchange
from ..watch import Run
from .base import Examination, expect, skip


class ContractChecks(Examination):
    """Checks of the events themselves, before a server converts them."""

    def test_the_agents_events_keep_to_their_contract(self) -> None:
        """The agent's events are well-formed and in order.

        Otherwise the server ends the turn with an error: `invalid_event`, `event_order` or `invalid_usage`. To fix:
        give each field the type that the event's class declares, and only JSON values. Give each call its own id, and
        `ToolCallReady` the same arguments as the call's deltas. Yield nothing after `Finished` or `Paused`.
        """
        if not self.can_be_watched:
            skip("the events of an agent inside an ASGI application cannot be seen")
        for prompt, exchange in self.once("contract", self._ask_all).items():
            for run in exchange.runs:
                wrong = _run_fault(run)
                expect(not wrong, f"asked {prompt!r}, the agent broke the contract: {wrong}")

    def _ask_all(self) -> dict[str, ObservedExchange]:
        """Send further requests: the streams of all configured prompts."""
        watched = self.watched(self.subject())
        tools = list(self.tools) if watched is None or watched.capabilities.client_tools else None
        bodies = {self.prompt: self.body(self.prompt, stream=True)}
        if self.own_tool_prompt is not None:
            bodies[self.own_tool_prompt] = self.body(self.own_tool_prompt, stream=True)
        if tools is not None:
            bodies[self.tool_prompt] = self.body(self.tool_prompt, tools=tools, stream=True)
        return {prompt: self.once(f"contract {prompt}", partial(self.ask, body)) for prompt, body in bodies.items()}


def _run_fault(run: Run) -> str:
    """The fault in the items of a run, checked again here; empty if there is none."""
    # As if the agent counted tokens itself: a cut by the server is no fault of the agent.
    enforcer = EventContract(run.request, counts_tokens=True)
    last: AgentEvent | str = ""
    for number, item in enumerate(run.items, 1):
        if isinstance(last, Finished | Paused):
            return f"item {number} is {item!r:.200}, after the end"
        last = item
        try:
            enforcer.feed(item)
        except AgentError as error:
            if error.code in BROKEN:
                return f"{error.code}: {error.message} Item {number} is {item!r:.200}. {error.__cause__ or ''}"
            raise
    return ""
