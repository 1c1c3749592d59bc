"""Every promise has a test, and every promise that a test names exists."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.requirements import REQUIREMENTS


def named_by_tests() -> set[str]:
    found: set[str] = set()
    for path in Path(__file__).parents[0].rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "requirement":
                found |= {ast.literal_eval(argument) for argument in node.args}
    return found


def test_every_promise_has_a_test_and_every_test_names_one_that_is_on_the_list() -> None:
    assert named_by_tests() == set(REQUIREMENTS)
