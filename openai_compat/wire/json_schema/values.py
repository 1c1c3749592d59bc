"""JSON values, compared as JSON Schema does and shown in error messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from pydantic_core import to_json

from .keywords import is_integer

MAX_SHOWN = 60


def canonical(value: Any, spend: Callable[[int], None]) -> str:
    """Return a text that is equal for values that JSON Schema treats as equal: 1 equals 1.0, but not true; key order is ignored.

    `spend` counts the steps.
    """
    spend(1)
    if isinstance(value, list):
        return f"[{','.join([canonical(item, spend) for item in cast('list[Any]', value)])}]"
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value).items()
        return f"{{{','.join(sorted([f'{_text(name)}:{canonical(item, spend)}' for name, item in fields]))}}}"
    if isinstance(value, str):
        spend(len(value) // 100)
        return _text(value)
    return str(int(value)) if is_integer(value) else str(value)


def describe(value: Any) -> str:
    """Return a short human-readable form of a value."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = _text(value[:MAX_SHOWN]) if isinstance(value, str) else to_json(value).decode()
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"


def path_of(steps: Sequence[str | int]) -> str:
    """Return a path into a value in JSONPath notation."""
    path = "$"
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += f".{step}" if step.isidentifier() else f"[{_text(step[:MAX_SHOWN])}]"
    return path


def _text(value: str) -> str:
    return to_json(value).decode()
