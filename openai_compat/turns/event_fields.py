"""The declared fields of event classes, read once per class, to check each event at run time.

Agents need not use a type checker, but clients need the right types.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from ..wire.json import is_json

Test: TypeAlias = Callable[[Any], bool]
Field: TypeAlias = tuple[str, tuple[type, ...], tuple[Any, ...], Test | None]
"""Name, allowed classes of a value, allowed constants, and a check of a container's contents."""

STORED_FIELDS = frozenset(["state"])
"""Stored fields, which must not contain infinity or NaN: JSON has no such numbers, and a stored null would lose the value."""


@functools.cache
def declared_fields(kind: type) -> list[Field]:
    """Return the fields of a dataclass."""
    return [_field(name, hint) for name, hint in get_type_hints(kind).items()]


def _field(name: str, hint: Any) -> Field:
    kinds: tuple[Any, ...] = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    constants = [constant for kind in kinds if get_origin(kind) is Literal for constant in get_args(kind)]
    classes: list[type] = [get_origin(kind) or kind for kind in kinds if get_origin(kind) is not Literal]
    holds = next((test for kind in kinds if (test := _contents_test(name, kind)) is not None), None)
    return name, tuple(reversed(classes)), tuple(constants), holds  # reversed: None first, the fastest to check


def _contents_test(name: str, kind: Any) -> Test | None:
    """Return the check for a container's contents."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Mapping:
        return functools.partial(is_json, finite=name in STORED_FIELDS)
    if origin is tuple:
        return lambda value: all([isinstance(each, inside[0]) for each in value])
    return _is_object_list if origin is Sequence else None


def _is_object_list(value: Any) -> bool:
    if isinstance(value, str | bytes):
        return False
    objects: list[object] = list(value)
    return is_json(objects) and all([isinstance(each, Mapping) for each in objects])
