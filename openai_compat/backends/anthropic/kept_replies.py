"""Answers that wait for the client's tools, as they came.

Thoughts are signed, and the API wants them back unchanged with the results of the calls they led to. OpenAI's API has
no place for signatures, so they are kept here. In another process they are unknown, and the turn goes on without.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...agent_request import Principal
from ...stores.bounded_tables import Shares, Table, size_of_value
from ..content_blocks import Block

KEPT = 512
"""Answers of one caller that are kept; the oldest are forgotten."""

KEPT_BYTES, KEPT_BYTES_EACH = 64 * 1024 * 1024, 16 * 1024 * 1024
"""Bytes of all these answers, and of one caller's."""


class RememberedAnswers:
    """Remembers the answers that made calls, for the caller they were made for."""

    def __init__(self) -> None:
        self._answers: Table[tuple[str, ...], list[Block]] = Table(Shares(KEPT_BYTES, KEPT_BYTES_EACH), KEPT)

    def remember(self, principal: Principal, content: list[Block]) -> None:
        """Keep an answer, if it has calls, and more than could be told from the client's history."""
        calls = tuple([block["id"] for block in content if block["type"] == "tool_use"])
        # Text and calls can be made again from the conversation; thoughts are signed, and cannot.
        if calls and any([block["type"] not in ("text", "tool_use") for block in content]):
            self._answers.rest(principal.id, calls, content, size_of_value(content))

    def recall(self, principal: Principal, calls: Sequence[str]) -> list[Block] | None:
        """The answer that made just these calls."""
        return self._answers.get(principal.id, tuple(calls))
