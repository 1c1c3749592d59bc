"""Reads the JSON objects of other programs, whose shape may change."""

from __future__ import annotations

from typing import Any, cast

from pydantic_core import to_json


def mapping(value: object) -> dict[str, Any]:
    """`value` if it is an object, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def objects(value: object) -> list[dict[str, Any]]:
    """The objects in `value`, if it is a list."""
    items = cast("list[Any]", value) if isinstance(value, list) else []
    return [item for item in items if isinstance(item, dict)]


def text(value: object) -> str:
    """`value` if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def count(value: object) -> int:
    """`value` if it is a token count, else 0."""
    return value if type(value) is int and value >= 0 else 0


def json_text(value: object) -> str:
    """`value` as JSON text, with null for numbers that JSON does not have."""
    return to_json(value, inf_nan_mode="null").decode()
