"""The conversation history, in the form of the Responses API, and how much of it the server has stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from .answer_events import ClientToolCall

Item: TypeAlias = dict[str, Any]

UNANSWERED = "The user sent another message instead."
"""The result of an unanswered tool call, because each call needs one."""


@dataclass(slots=True)
class Dialogue:
    """A conversation.

    Attributes:
        model: the current agent.
        is_ours: True if the server is openai-compat, which stores conversations and asks for approvals.
        system: instructions; "" for none.
        tools: the client's tools, in the form of the Responses API.
        history: all items.
        previous: id of the response that the next turn continues; "" if a request needs the whole history.
        unsent: the items added after `previous`.
        open_calls: calls of the client's tools that have no result.
    """

    model: str
    is_ours: bool = False
    system: str = ""
    tools: list[Item] = field(default_factory=list[Item])
    history: list[Item] = field(default_factory=list[Item])
    previous: str = ""
    unsent: list[Item] = field(default_factory=list[Item])
    open_calls: list[ClientToolCall] = field(default_factory=list[ClientToolCall])

    def clear(self) -> None:
        """Drop the history: the next message begins a new conversation."""
        self.history, self.unsent, self.open_calls, self.previous = [], [], [], ""

    def switch_model(self, model: str) -> None:
        """Continue with another agent, which gets the whole history."""
        self.model, self.previous, self.unsent = model, "", []

    def copy(self) -> Dialogue:
        """Return a snapshot, to go back to later."""
        return replace(self, history=[*self.history], unsent=[*self.unsent], open_calls=[*self.open_calls])

    def with_results(self, items: list[Item]) -> list[Item]:
        """Prepend a result for each open call that the items do not answer."""
        answered = {item.get("call_id") for item in items}
        passed = [
            {"type": f"{call.kind}_output", "call_id": call.id, "output": UNANSWERED}
            for call in self.open_calls
            if call.id not in answered
        ]
        return passed + items

    def request_input(self, items: list[Item]) -> list[Item]:
        """The input of a request."""
        return (self.unsent if self.previous else self.history) + items

    def add_turn(self, items: Iterable[Item], response: str) -> None:
        """Store a completed turn: the items that were sent, and the output."""
        self.history += [item for item in items if item.get("type") != "mcp_approval_response"]
        self.unsent, self.previous = [], response if self.is_ours else ""

    def add_partial_turn(self, items: list[Item], output: list[Item]) -> None:
        """Store a stopped or failed turn, which the server has not stored. Drops a message without any answer."""
        said = bool(output)
        kept = [item for item in items if item.get("type") != "mcp_approval_response" and (said or "role" not in item)]
        self.history += kept + output
        self.unsent += kept + output
