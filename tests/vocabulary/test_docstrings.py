"""Docstrings name the thing: the first word is not one that only announces it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.vocabulary.test_public_names import PACKAGES

# "What the caller may do" tells less than "Permissions of the caller", and nobody finds it by searching.
NAMES_NOTHING = re.compile(r"\s*(What|Whether)\b")


def bare_strings(path: Path) -> list[ast.Constant]:
    """Docstrings, and the strings below constants and fields."""
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    found = [node.value for node in nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    return [constant for constant in found if isinstance(constant.value, str)]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_no_docstring_begins_with_what_or_whether(package: Path) -> None:
    found = [
        f"{path.relative_to(package)}:{text.lineno}: {text.value}"
        for path in package.rglob("*.py")
        for text in bare_strings(path)
        if NAMES_NOTHING.match(str(text.value))
    ]
    assert found == []
