"""Budgets of tokens: how many a principal may have agents use in a day or a month."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from ..agent_request import Principal
from ..agents.setting_types import check_fields
from ..wire.reducer import Usage
from .rates import TOKEN_HEADERS, duration


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens that each API key's owner may have agents use, as they report them. Raises ValueError for a number below 0.

    Attributes:
        tokens: how many; 0 lets nobody in.
        per: the period, in UTC: it begins at midnight, or with the first of a month.
        of: which tokens count.
        without_store: what becomes of requests while the store does not answer: they are let in, or refused with 503.
    """

    tokens: int
    per: Literal["day", "month"] = "day"
    of: Literal["total", "input", "output"] = "total"
    without_store: Literal["admit", "refuse"] = "admit"

    def __post_init__(self) -> None:
        check_fields(self)

    def period(self, now: datetime) -> str:
        """The name of the period that `now` is in: `2026-11-30`, `2026-11`."""
        return now.strftime("%Y-%m-%d" if self.per == "day" else "%Y-%m")

    def left(self, now: datetime) -> float:
        """Seconds until the next period."""
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        month = (midnight.replace(day=28) + timedelta(days=4)).replace(day=1)
        return ((midnight + timedelta(days=1) if self.per == "day" else month) - now).total_seconds()

    def count(self, usage: Usage) -> int:
        """The tokens of a turn that count."""
        inputs, outputs = usage.input_tokens, usage.output_tokens
        return {"total": inputs + outputs, "input": inputs, "output": outputs}[self.of]

    def headers(self, used: int, now: datetime) -> list[tuple[str, str]]:
        """Headers of an answer: the budget, what is left of it, and the time until all of it is there again."""
        remaining = max(0, self.tokens - used)
        values = (str(self.tokens), str(remaining), duration(self.left(now)))
        return list(zip(TOKEN_HEADERS, values, strict=True))


BudgetsOf: TypeAlias = Budget | Sequence[Budget] | Callable[[Principal], Budget | Sequence[Budget] | None]
"""The same for all, one or several, or a function that says it for each; None is no budget."""


def utc_now() -> datetime:
    """The time that periods are counted by."""
    return datetime.now(UTC)
