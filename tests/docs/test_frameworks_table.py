"""The table of framework features matches the test cases that tests/frameworks/run.py runs."""

from __future__ import annotations

from openai_compat.agents.frameworks import FRAMEWORKS
from tests.docs.served import ROOT
from tests.frameworks.scenarios import SCENARIOS
from tests.frameworks.table import BEGIN, END, PAGE, names, page

TABLE = PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE.splitlines() if line.startswith("|")]
BACKENDS = {framework.backend.partition(":")[0] for framework in FRAMEWORKS if framework.backend}
PROTOCOLS = {"acp", "a2a"}
"""Backends for programs and addresses: no object exists by which they could be recognised."""


def test_every_backend_of_a_framework_has_its_cases_its_page_and_its_extra() -> None:
    extras = (ROOT / "pyproject.toml").read_text("utf-8")

    assert names().keys() == BACKENDS | PROTOCOLS
    for name in BACKENDS | PROTOCOLS:
        assert f'\n{name.replace("_", "-")} = ["' in extras
        assert (ROOT / f"docs/how-to/{name.replace('_', '-')}.md").is_file()
        assert any(
            (ROOT / f"openai_compat/backends/{path}").is_file() for path in (f"{name}.py", f"{name}/__init__.py")
        )


def test_the_page_has_the_table_that_the_cases_prove() -> None:
    assert page() == PAGE.read_text("utf-8"), "python tests/frameworks/run.py --update"


def test_every_framework_has_a_column_and_every_scenario_a_row() -> None:
    head, _, *rows = ROWS

    assert head[1:] == list(names().values())
    assert [row[0] for row in rows] == list(SCENARIOS.values())
    assert {cell for row in rows for cell in row[1:]} == {"✓", "–"}
