"""Token budgets: the number of tokens that a principal may use per day or month."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from ..agent_request import Principal
from ..agents.setting_types import check_fields
from ..wire.reducer import Usage
from .rates import TOKEN_HEADERS, format_duration


@dataclass(frozen=True, slots=True)
class Budget:
    """Token budget of each principal, as agents report usage. Raises ValueError for a negative number.

    Attributes:
        tokens: the budget; 0 admits no one.
        per: the period, in UTC: it starts at midnight, or on the first of a month.
        of: the tokens that count.
        without_store: "admit" or "refuse" (503) requests while the store does not answer.
    """

    tokens: int
    per: Literal["day", "month"] = "day"
    of: Literal["total", "input", "output"] = "total"
    without_store: Literal["admit", "refuse"] = "admit"

    def __post_init__(self) -> None:
        check_fields(self)

    def period(self, now: datetime) -> str:
        """Return the name of the period that contains `now`: `2026-11-30`, `2026-11`."""
        return now.strftime("%Y-%m-%d" if self.per == "day" else "%Y-%m")

    def left(self, now: datetime) -> float:
        """Return the seconds until the next period."""
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        month = (midnight.replace(day=28) + timedelta(days=4)).replace(day=1)
        return ((midnight + timedelta(days=1) if self.per == "day" else month) - now).total_seconds()

    def count(self, usage: Usage) -> int:
        """Return the number of a turn's tokens that count."""
        inputs, outputs = usage.input_tokens, usage.output_tokens
        return {"total": inputs + outputs, "input": inputs, "output": outputs}[self.of]

    def headers(self, used: int, now: datetime) -> list[tuple[str, str]]:
        """Return the response headers: the budget, the remaining tokens, and the time until the budget is reset."""
        remaining = max(0, self.tokens - used)
        values = (str(self.tokens), str(remaining), format_duration(self.left(now)))
        return list(zip(TOKEN_HEADERS, values, strict=True))


BudgetsOf: TypeAlias = Budget | Sequence[Budget] | Callable[[Principal], Budget | Sequence[Budget] | None]
"""One budget or several for everyone, or a function that returns them for a principal; None is no budget."""


def utc_now() -> datetime:
    """Return the time that determines budget periods."""
    return datetime.now(UTC)
