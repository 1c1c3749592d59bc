"""`__all__` is true both ways: what it lists is there, and what is public is on it."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import openai_compat

MODULES = ["events", "errors", "messages", "http"]


def defined_in(path: Path) -> set[str]:
    """The public names that a module defines itself."""
    names: set[str] = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case _:
                pass
    return {name for name in names if not name.startswith("_")}


def imported_in(path: Path) -> set[str]:
    nodes = [node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name for node in nodes for alias in node.names}


@pytest.mark.parametrize("name", MODULES)
def test_a_public_module_lists_what_it_defines(name: str) -> None:
    module = importlib.import_module(f"openai_compat.{name}")
    assert set(module.__all__) == defined_in(Path(str(module.__file__)))


def test_the_package_lists_what_it_imports() -> None:
    assert {*openai_compat.__all__, "__version__"} == imported_in(Path(openai_compat.__file__))
    assert all(hasattr(openai_compat, name) for name in openai_compat.__all__)


def test_the_docstring_names_the_public_modules() -> None:
    for name in MODULES:
        assert f"`openai_compat.{name}`" in (openai_compat.__doc__ or "")


def test_what_is_public_is_documented() -> None:
    for name in openai_compat.__all__:
        thing = getattr(openai_compat, name)
        if isinstance(thing, type) or callable(thing):
            assert thing.__doc__, name
            assert not thing.__doc__.startswith(f"{name}("), f"{name} has a dataclass's own docstring"
