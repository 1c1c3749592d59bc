"""Typed access to untrusted JSON: a value of the wrong type counts as missing."""

from __future__ import annotations

from typing import Any, TypeAlias, cast

JsonObject: TypeAlias = dict[str, Any]


def object_in(value: Any) -> JsonObject:
    """An object; {} for anything else."""
    return cast("JsonObject", value) if isinstance(value, dict) else {}


def objects_in(value: Any) -> list[JsonObject]:
    """The objects of a list; [] for anything else."""
    return (
        [cast("JsonObject", one) for one in cast("list[Any]", value) if isinstance(one, dict)]
        if isinstance(value, list)
        else []
    )


def text_in(value: Any) -> str:
    """A string; "" for anything else."""
    return value if isinstance(value, str) else ""


def number_in(value: Any) -> int | None:
    """A whole number; None for anything else."""
    return value if isinstance(value, int) else None
