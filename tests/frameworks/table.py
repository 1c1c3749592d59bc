"""Makes the table of the documentation: which scenario works with which framework.

The table shows the claims of the test doubles: all scenarios except the `IMPOSSIBLE` ones. Running the cases proves them.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from tests.frameworks.scenarios import SCENARIOS

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "how-to" / "frameworks.md"
BEGIN, END = "<!-- what works: tests/frameworks/run.py --update -->\n", "<!-- until here -->\n"


def constants(name: str) -> dict[str, Any]:
    """A constant of all files of test doubles, by file name. Parsed, since an import would need the frameworks."""
    found: dict[str, Any] = {}
    for path in sorted(HERE.glob("*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
            if [target.id for target in targets if isinstance(target, ast.Name)] == [name]:
                found[path.stem] = ast.literal_eval(node.value)
    return found


def names() -> dict[str, str]:
    """The display names of the frameworks, by file name."""
    return constants("NAME")


def asking() -> list[str]:
    """The frameworks whose agents can request approval."""
    impossible = constants("IMPOSSIBLE")
    return [name for name in names() if "approvals" not in impossible[name]]


def table() -> str:
    """The table, with the reasons for its gaps below."""
    people, impossible = names(), constants("IMPOSSIBLE")
    lines = [f"| | {' | '.join(people.values())} |", f"|---|{'---|' * len(people)}"]
    for scenario, text in SCENARIOS.items():
        cells = ["–" if scenario in impossible[name] else "✓" for name in people]
        lines.append(f"| {text} | {' | '.join(cells)} |")
    notes = [
        f"- {people[name]}, {SCENARIOS[scenario]}: {reason}."
        for name, reasons in impossible.items()
        for scenario, reason in reasons.items()
    ]
    return "\n".join([*lines, *(["", *notes] if notes else []), ""])


def page() -> str:
    """The page with the current table."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"
