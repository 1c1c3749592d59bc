"""The table of the documentation: what works with which framework. It is made of what the cases showed."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from tests.frameworks.scenarios import SCENARIOS

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "how-to" / "frameworks.md"
BEGIN, END = "<!-- what works: tests/frameworks/run.py --update -->\n", "<!-- until here -->\n"

Outcomes: TypeAlias = dict[str, str]
"""By scenario: "" if it works, else why it cannot."""


def names() -> dict[str, str]:
    """The frameworks' names for people, by the names of their files here."""
    found = {}
    for path in sorted(HERE.glob("*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "NAME":
                found[path.stem] = ast.literal_eval(node.value)
    return found


def table_of(outcomes: Mapping[str, Outcomes]) -> str:
    """The table, and below it what cannot be had."""
    people = names()
    lines = [f"| | {' | '.join([people[name] for name in outcomes])} |", f"|---|{'---|' * len(outcomes)}"]
    notes: list[str] = []
    for scenario, text in SCENARIOS.items():
        cells: list[str] = []
        for name, told in outcomes.items():
            reason = told[scenario]
            cells.append("–" if reason else "✓")
            if reason:
                notes.append(f"- {people[name]}, {text}: {reason}.")
        lines.append(f"| {text} | {' | '.join(cells)} |")
    return "\n".join([*lines, *(["", *notes] if notes else []), ""])


def page_with(table: str) -> str:
    """The page with this table in the place of the one that it has."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}"
