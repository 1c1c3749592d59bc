"""Keeps the original blocks of answers that wait for client tools.

Thinking blocks are signed, and the API requires them back unchanged with the results of the calls after them. OpenAI's
API has no place for signatures, so the blocks are kept here. Another process does not know the blocks, and the turn
continues without them.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...agent_request import Principal
from ...stores.bounded_tables import Shares, Table, size_of_value
from ..content_blocks import Block

MAX_ANSWERS = 512
"""Maximum number of answers kept per principal; the oldest are evicted."""

MAX_BYTES, MAX_BYTES_PER_PRINCIPAL = 64 * 1024 * 1024, 16 * 1024 * 1024
"""Maximum bytes of all kept answers, and of the answers of one principal."""


class ReplyCache:
    """Answers with client tool calls, kept per principal."""

    def __init__(self) -> None:
        self._answers: Table[tuple[str, ...], list[Block]] = Table(
            Shares(MAX_BYTES, MAX_BYTES_PER_PRINCIPAL), MAX_ANSWERS
        )

    def remember(self, principal: Principal, content: list[Block]) -> None:
        """Keep an answer that has calls, and blocks that cannot be rebuilt from the client's history."""
        calls = tuple([block["id"] for block in content if block["type"] == "tool_use"])
        # Text and calls can be rebuilt from the conversation; signed thinking blocks cannot.
        if calls and any([block["type"] not in ("text", "tool_use") for block in content]):
            self._answers.put(principal.id, calls, content, size_of_value(content))

    def recall(self, principal: Principal, calls: Sequence[str]) -> list[Block] | None:
        """The answer with exactly these calls, or None."""
        return self._answers.get(principal.id, tuple(calls))
