"""Reads a function's docstring for a model: its text, and the descriptions of its arguments."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

SECTION = re.compile(r"^(Args|Arguments|Parameters|Returns?|Yields?|Raises|Examples?|Notes?|Attributes):\s*$")
ENTRY = re.compile(r"^(\s+)\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")


@dataclass(slots=True)
class Docstring:
    """The text before the first section, and the parameters' descriptions by name (Google style)."""

    text: str = ""
    parameters: dict[str, str] = field(default_factory=dict[str, str])


def read_docstring(function: Callable[..., Any]) -> Docstring:
    """Parse a function's docstring; sections other than the parameters are omitted for the model."""
    lines = (inspect.getdoc(function) or "").splitlines()
    starts = [index for index, line in enumerate(lines) if SECTION.match(line)]
    doc = Docstring("\n".join(lines[: starts[0]] if starts else lines).strip())
    for start, end in pairwise([*starts, len(lines)]):
        if lines[start].startswith(("Args", "Arguments", "Parameters")):
            doc.parameters = _parse_entries(lines[start + 1 : end])
    return doc


def _parse_entries(lines: list[str]) -> dict[str, str]:
    """Parse lines of the form `name (type): text`; deeper indented lines continue the text."""
    entries: dict[str, str] = {}
    depth, name = 0, ""
    for line in lines:
        found = ENTRY.match(line)
        # A deeper indented line continues the text, even if it looks like an entry.
        if found and (not name or len(found[1]) <= depth):
            depth, name = len(found[1]), found[2]
            entries[name] = found[3].strip()
        elif name and line.strip():
            entries[name] = f"{entries[name]} {line.strip()}".strip()
    return entries
