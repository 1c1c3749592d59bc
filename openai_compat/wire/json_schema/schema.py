"""A JSON Schema to validate values against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .checking import Check, TooManySteps
from .references import References, WorkBudget
from .rules import RULES
from .values import path_of


class Schema:
    """A schema to validate values against. Raises InvalidSchema."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = dict(schema)
        self._references = References(self._root, WorkBudget(), strict=True)

    def problem(self, value: Any, steps: int) -> str | None:
        """Return the first mismatch of a value, or None if the value matches. Raises TooManySteps."""
        check = Check(self._references, RULES, steps)
        try:
            found = check.verdict(self._root, value, ("",)).problem
        # Deep nesting is a cost too, in stack frames.
        except RecursionError:
            raise TooManySteps from None
        return None if found is None else f"At {path_of(found[0])}: {found[1]}"[:500]
