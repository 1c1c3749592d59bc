"""Whether an event holds what its class says it holds: agents need no type checker, but clients need the right types."""

from __future__ import annotations

import functools
from types import UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

Field: TypeAlias = tuple[str, tuple[type, ...], tuple[Any, ...]]


def is_well_formed(event: object) -> bool:
    """Whether every field of a dataclass has a value of its type; what containers hold is not looked at."""
    kind: Any = type(event)
    for name, classes, constants in _fields(kind):
        value = getattr(event, name)
        if not isinstance(value, classes) and value not in constants:
            return False
    return True


@functools.cache
def _fields(kind: type) -> list[Field]:
    """The fields of a class: the classes that the value of each may have, and the constants that it may be."""
    return [_field(name, hint) for name, hint in get_type_hints(kind).items()]


def _field(name: str, hint: Any) -> Field:
    kinds: tuple[Any, ...] = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    constants = [constant for kind in kinds if get_origin(kind) is Literal for constant in get_args(kind)]
    classes: list[type] = [get_origin(kind) or kind for kind in kinds if get_origin(kind) is not Literal]
    return name, tuple(reversed(classes)), tuple(constants)  # reversed: None, the quickest to tell, comes first
