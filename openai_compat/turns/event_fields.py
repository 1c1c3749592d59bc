"""Runtime type checks of event fields: agents need no type checker, but clients need the right types."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from types import UnionType
from typing import Any, Literal, TypeAlias, Union, cast, get_args, get_origin, get_type_hints

Test: TypeAlias = Callable[[Any], bool]
Field: TypeAlias = tuple[str, tuple[type, ...], tuple[Any, ...], Test | None]

KEPT = frozenset(["state"])
"""Fields that the store keeps: JSON has no number for infinity, and what is shown as null must not be kept as that."""


def is_well_formed(event: object) -> bool:
    """True if every field of a dataclass, and everything in its containers, has the declared type."""
    return wrong_field(event) is None


def wrong_field(event: object) -> str | None:
    """The first field of a dataclass whose value is not what its type says; None if there is none."""
    kind: Any = type(event)
    for name, classes, constants, holds in _fields(kind):
        value = getattr(event, name)
        if not isinstance(value, classes):
            if value not in constants:
                return name
        elif holds is not None and value is not None and not holds(value):
            return name
    return None


@functools.cache
def _fields(kind: type) -> list[Field]:
    """The fields of a class: the classes that a value may have, the constants it may be, and what it has to hold."""
    return [_field(name, hint) for name, hint in get_type_hints(kind).items()]


def _field(name: str, hint: Any) -> Field:
    kinds: tuple[Any, ...] = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    constants = [constant for kind in kinds if get_origin(kind) is Literal for constant in get_args(kind)]
    classes: list[type] = [get_origin(kind) or kind for kind in kinds if get_origin(kind) is not Literal]
    holds = next((test for kind in kinds if (test := _contents(name, kind)) is not None), None)
    return name, tuple(reversed(classes)), tuple(constants), holds  # reversed: None, the quickest to tell, comes first


def _contents(name: str, kind: Any) -> Test | None:
    """The check for a container's contents."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Mapping:
        return functools.partial(is_json, finite=name in KEPT)
    if origin is tuple and is_dataclass(inside[0]):
        return lambda value: all([isinstance(each, inside[0]) and is_well_formed(each) for each in value])
    return _is_objects if origin is Sequence else None


def _is_objects(value: Any) -> bool:
    if isinstance(value, str | bytes):
        return False
    objects: list[object] = list(value)
    return is_json(objects) and all([isinstance(each, Mapping) for each in objects])


def is_json(value: object, *, finite: bool = False) -> bool:
    """True if JSON can carry a value: as it is with `finite`, else with NaN as null and bytes as text."""
    try:
        return _is_json(value, finite)
    except RecursionError:  # far too deep, or in itself
        return False


def _is_json(value: object, finite: bool) -> bool:
    if value is None or isinstance(value, str | int):
        return True
    if isinstance(value, float):
        return not finite or math.isfinite(value)
    if isinstance(value, bytes):  # which MessagePack carries
        return not finite
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value).items()
        return all([isinstance(key, str) and _is_json(each, finite) for key, each in pairs])
    return isinstance(value, list | tuple) and all([_is_json(each, finite) for each in cast("list[object]", value)])
