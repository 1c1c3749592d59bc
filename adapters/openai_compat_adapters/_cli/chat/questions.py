"""Questions to the user: approvals, and results of the client's tools."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ..terminal import visible
from .answer_events import ApprovalRequest, ClientToolCall, Question
from .dialogue import Item
from .display import Display, one_line, parse_arguments

Ask: TypeAlias = Callable[[str], str]

NOBODY_TO_ASK = "Denied, because nobody is here to ask; --approve approves all calls."


class Answerer:
    """Asks the user, and makes the items that answer the agent's questions.

    Attributes:
        missed: True if something was denied or left open because nobody could be asked.

    Args:
        display: shows the questions.
        ask: shows a text to the user and reads a line; None if nobody is there. Drops input that was typed before,
            since it was meant for something else.
        approve: approve everything without asking.
    """

    def __init__(self, display: Display, ask: Ask | None, *, approve: bool) -> None:
        self.missed = False
        self._display = display
        self._ask = ask
        self._approve = approve

    def ask_all(self, questions: list[Question]) -> list[Item]:
        """Return an item for each question, or no items if a question was left open."""
        items: list[Item] = []
        for question in questions:
            item = self._ask_approval(question) if isinstance(question, ApprovalRequest) else self._ask_result(question)
            if item is None:
                return []
            items.append(item)
        return items

    def _ask_approval(self, question: ApprovalRequest) -> Item:
        item: Item = {"type": "mcp_approval_response", "approval_request_id": question.id, "approve": True}
        if self._approve:
            return item
        self._show(f"? May the agent run {one_line(question.name)}?", question.arguments)
        if self._ask is None:
            self.missed = True
            self._display.notify(NOBODY_TO_ASK)
            return {**item, "approve": False}
        word = ""
        while not word:
            word = self._ask("  y yes · a always · n no · or type a reason to deny: ").strip()
        if word.lower() in ("y", "yes"):
            return item
        if word.lower() in ("a", "always"):
            return {**item, "always": True}
        return {**item, "approve": False} | ({} if word.lower() in ("n", "no") else {"reason": word})

    def _ask_result(self, call: ClientToolCall) -> Item | None:
        self._show(f"The agent calls your tool {one_line(call.name)}:", call.arguments)
        if self._ask is None:
            self.missed = True
            self._display.notify("Nobody is here to give its result.")
            return None
        return {"type": f"{call.kind}_output", "call_id": call.id, "output": self._ask("  result: ")}

    def _show(self, title: str, arguments: str) -> None:
        given = [f"    {one_line(name)}: {visible(value)}" for name, value in parse_arguments(arguments).items()]
        self._display.ask("\n".join([title, *given]))
