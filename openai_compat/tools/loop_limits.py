"""Limits of one tool-loop turn; a request may tighten them."""

from __future__ import annotations

from dataclasses import dataclass

from ..agent_request import AgentRequest
from ..errors import InvalidRequest

STEPS = "max_steps"
BUDGET = "max_budget"
"""The fields of a request that bound its turn."""


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """The number of times a turn may run tools, and its budget of tokens; None for no bound.

    A request may lower both, and raise the first up to `most_roundtrips`: it counts *steps*, which are answers of the
    model, and there is one more of these. Raises ValueError for what makes no sense.
    """

    roundtrips: int
    budget: int | None = None
    most_roundtrips: int | None = None

    def __post_init__(self) -> None:
        if self.roundtrips < 0 or (self.budget is not None and self.budget < 1):
            raise ValueError("a tool loop makes no less than 0 roundtrips, on a budget of at least one token")
        if self.most_roundtrips is not None and self.most_roundtrips < self.roundtrips:
            raise ValueError("the most roundtrips that a request may ask for are no less than those it has anyway")

    def of(self, request: AgentRequest) -> LoopLimits:
        """The limits for a request. Raises InvalidRequest for numbers that are none."""
        steps, budget = _number(request, STEPS), _number(request, BUDGET)
        roundtrips = self.roundtrips if steps is None else min(steps - 1, self.most_roundtrips or self.roundtrips)
        tokens = [number for number in (budget, self.budget) if number is not None]
        return LoopLimits(roundtrips, min(tokens, default=None))


def _number(request: AgentRequest, name: str) -> int | None:
    value = request.extra.get(name)
    # By its type: `true` is an int for Python.
    if value is not None and (type(value) is not int or value < 1):
        raise InvalidRequest(f"'{name}' is a whole number above 0.", param=name, code="invalid_value")
    return value
