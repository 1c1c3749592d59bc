"""What was said so far, in the form of the Responses API, and what the server knows of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from .answer_events import CalledClient

Item: TypeAlias = dict[str, Any]

PASSED_OVER = "The user sent another message instead."
"""The result of a call that nobody has answered: each needs one."""


@dataclass(slots=True)
class Dialogue:
    """A conversation.

    Attributes:
        model: who is talked to.
        is_ours: whether the server is of this library: it keeps conversations, and asks for approvals.
        system: instructions; "" for none.
        tools: of ours, for the agent to call, as the Responses API takes them.
        history: all items.
        previous: the response that a turn goes on from; "" where the server has to be told everything.
        unsent: the items since then.
        open_calls: of our tools, without a result.
    """

    model: str
    is_ours: bool = False
    system: str = ""
    tools: list[Item] = field(default_factory=list[Item])
    history: list[Item] = field(default_factory=list[Item])
    previous: str = ""
    unsent: list[Item] = field(default_factory=list[Item])
    open_calls: list[CalledClient] = field(default_factory=list[CalledClient])

    def clear(self) -> None:
        """Forget what was said: the next message begins a new conversation."""
        self.history, self.unsent, self.open_calls, self.previous = [], [], [], ""

    def talk_to(self, model: str) -> None:
        """Go on with another agent, which is told what was said."""
        self.model, self.previous, self.unsent = model, "", []

    def copy(self) -> Dialogue:
        """Itself at this point, to come back to."""
        return replace(self, history=[*self.history], unsent=[*self.unsent], open_calls=[*self.open_calls])

    def with_results(self, items: list[Item]) -> list[Item]:
        """The items of a turn, before them a result for each call that they have none for."""
        answered = {item.get("call_id") for item in items}
        passed = [
            {"type": f"{call.kind}_output", "call_id": call.id, "output": PASSED_OVER}
            for call in self.open_calls
            if call.id not in answered
        ]
        return passed + items

    def to_send(self, items: list[Item]) -> list[Item]:
        """The input of a request."""
        return (self.unsent if self.previous else self.history) + items

    def keep(self, items: Iterable[Item], response: str) -> None:
        """A turn has ended well: what was sent, and the output."""
        self.history += [item for item in items if item.get("type") != "mcp_approval_response"]
        self.unsent, self.previous = [], response if self.is_ours else ""

    def keep_part(self, items: list[Item], output: list[Item]) -> None:
        """A turn was stopped, or failed: the server has kept nothing of it. A message without any answer is dropped."""
        said = bool(output)
        kept = [item for item in items if item.get("type") != "mcp_approval_response" and (said or "role" not in item)]
        self.history += kept + output
        self.unsent += kept + output
