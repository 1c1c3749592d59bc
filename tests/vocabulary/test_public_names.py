"""The public names are those in `__all__` of a module and those in the reference: neither has a name that the other lacks."""

from __future__ import annotations

import ast
import functools
import importlib
import re
from collections import defaultdict
from pathlib import Path

import pytest

import openai_compat
import openai_compat_adapters

PACKAGES = [Path(package.__path__[0]) for package in (openai_compat, openai_compat_adapters)]
REFERENCE = Path(openai_compat.__path__[0]).parent / "docs" / "reference"

MODULES = ["events", "errors", "messages", "http"]


def defined_in(path: Path) -> set[str]:
    """Return the public names that a module defines itself."""
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


def imported_in(path: Path) -> dict[str, str]:
    """Return the names that a module imports, with their modules; also in blocks for type checkers and optional packages."""
    body = ast.parse(path.read_text("utf-8")).body
    body += [inner for node in body if isinstance(node, ast.If | ast.With) for inner in node.body]
    nodes = [node for node in body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: node.module or "" for node in nodes for alias in node.names}


@pytest.mark.parametrize("name", MODULES)
def test_a_public_module_lists_what_it_defines(name: str) -> None:
    module = importlib.import_module(f"openai_compat.{name}")
    assert set(module.__all__) == defined_in(Path(str(module.__file__)))


def test_the_package_lists_what_it_imports_when_it_is_asked_for() -> None:
    of_others = {"TYPE_CHECKING", "annotations", "import_module"}
    imported = {name: home for name, home in imported_in(Path(openai_compat.__file__)).items() if name not in of_others}
    assert {*openai_compat.__all__, "__version__"} == set(imported)
    assert {name: imported[name] for name in openai_compat.__all__} == openai_compat._MODULES
    assert all(hasattr(openai_compat, name) for name in openai_compat.__all__)
    assert set(openai_compat.__all__) <= set(dir(openai_compat))
    assert openai_compat.events.TextDelta is openai_compat.TextDelta
    for name in ("Sever", "nothing", "__path_of_it__"):
        with pytest.raises(AttributeError, match=f"module 'openai_compat' has no attribute '{name}'"):
            getattr(openai_compat, name)


def test_the_docstring_names_the_public_modules() -> None:
    for name in MODULES:
        assert f"`openai_compat.{name}`" in (openai_compat.__doc__ or "")


def test_what_is_public_is_documented() -> None:
    for name in openai_compat.__all__:
        thing = getattr(openai_compat, name)
        if isinstance(thing, type) or callable(thing):
            assert thing.__doc__, name
            assert not thing.__doc__.startswith(f"{name}("), f"{name} has a dataclass's own docstring"


def listing() -> dict[str, Path]:
    """Return the modules that have an `__all__`."""
    found: dict[str, Path] = {}
    for package in PACKAGES:
        for path in package.rglob("*.py"):
            if re.search(r"^__all__ = ", path.read_text("utf-8"), re.MULTILINE):
                parts = path.relative_to(package.parent).with_suffix("").parts
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def listed_in(path: Path) -> set[str]:
    """Return the names in a module's `__all__`, read without an import: the frameworks of some backends are missing here."""
    for node in ast.parse(path.read_text("utf-8")).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")]):
                return set(ast.literal_eval(node.value))
            case _:
                pass
    raise AssertionError(path)


@functools.cache
def documented() -> dict[str, set[str]]:
    """Return the names in the reference, by module: rendered, imported, or listed beside these."""
    text = "".join([path.read_text("utf-8") for path in REFERENCE.glob("*.md")])
    names: defaultdict[str, set[str]] = defaultdict(set)
    for module, name in re.findall(r"^::: ([\w.]+)\.(\w+)$", text, re.MULTILINE):
        if module == "openai_compat.Server":
            continue  # methods
        names[module].add(name)
        try:
            home = getattr(getattr(importlib.import_module(module), name), "__module__", module)
        except ModuleNotFoundError:  # a backend whose framework is not installed
            home = module
        names[home].add(name)
    for module, imported in re.findall(r"^from ([\w.]+) import ([\w, ]+)$", text, re.MULTILINE):
        if module.startswith("openai_compat") and module != "openai_compat":  # whose modules are imported from it
            names[module].update(imported.split(", "))
    for module, told in re.findall(r"^Also in `([\w.]+)`: (.*?)\n\n", text + "\n\n", re.MULTILINE | re.DOTALL):
        names[module].update(re.findall(r"`(\w+)`", told))
    names["openai_compat"].add("AgentEvent")
    names["openai_compat.errors"].update(re.findall(r"^\| `([A-Z]\w+)` \| \d+ \|", text, re.MULTILINE))
    return names


@pytest.mark.parametrize("module", sorted(listing()))
def test_a_public_module_lists_what_the_reference_shows(module: str) -> None:
    assert listed_in(listing()[module]) == documented()[module]


def test_a_module_that_the_reference_shows_is_a_public_one() -> None:
    text = "".join([path.read_text("utf-8") for path in REFERENCE.glob("*.md")])
    shown = set(re.findall(r"^::: ([\w.]+)\.\w+$", text, re.MULTILINE)) - {"openai_compat.Server"}
    imported = set(re.findall(r"^from (openai_compat\S*) import ", text, re.MULTILINE))

    assert shown | imported <= set(listing())


def test_no_private_name_is_listed() -> None:
    for name, path in listing().items():
        there = defined_in(path) | set(imported_in(path))
        assert [one for one in listed_in(path) if one.startswith("_") or one not in there] == []
        assert not any(part.startswith("_") for part in name.split("."))
        assert ast.get_docstring(ast.parse(path.read_text("utf-8")))
