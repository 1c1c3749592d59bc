"""Rejects settings of the wrong type when they are created, not at the first request."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from .describe import describe

Text = TypeVar("Text", bound=str)

NUMBERS = {int: "a whole number", float: "a number"}
WORDS: Mapping[Any, str] = {bool: "True or False", str: "a string", types.NoneType: "None", Callable: "a function"}


def check_fields(settings: Any) -> None:
    """Check the numbers, strings and choices of a settings dataclass, in its `__post_init__`.

    Raises TypeError for a value of the wrong type, ValueError for a number below 0 or an unknown choice.
    """
    kind = cast("type[Any]", type(settings))
    for name, allowed in _fields(cast("Any", kind)).items():
        _check(f"{kind.__name__}.{name}", getattr(settings, name), allowed)


def check_setting(name: str, value: object, *kinds: type) -> None:
    """Raise TypeError unless a setting is an instance of one of `kinds`."""
    if not isinstance(value, kinds):
        known = " or ".join([WORDS.get(kind, f"a {kind.__name__}") for kind in kinds])
        raise TypeError(f"{name} is {known}, not {describe(value)}")


def check_strings(name: str, values: Iterable[Text]) -> tuple[Text, ...]:
    """Return the strings of a setting as a tuple. Raises TypeError for anything else, including a single string."""
    if isinstance(values, str):
        raise TypeError(f"{name} takes several strings: [{describe(values)}], not {describe(values)}")
    if not isinstance(cast("Any", values), Iterable):
        raise TypeError(f"{name} takes several strings, not {describe(values)}")
    strings = tuple(values)
    for value in strings:
        check_setting(f"each of {name}", value, str)
    return strings


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    known = list(choices)
    if value not in known:
        raise ValueError(f"{name} is one of {', '.join(map(repr, known))}, not {describe(value)}")


@functools.cache
def _fields(kind: type) -> dict[str, tuple[Any, ...]]:
    """The fields that hold numbers, strings, choices or None, with the types and choices allowed for each."""
    hints = get_type_hints(kind)
    found: dict[str, tuple[Any, ...]] = {}
    for field in dataclasses.fields(cast("Any", kind)):
        hint = hints[field.name]
        members: tuple[Any, ...] = get_args(hint) if get_origin(hint) in (types.UnionType, Union) else (hint,)
        members = tuple([Callable if get_origin(member) is Callable else member for member in members])
        # Fields of other types are left to type checkers.
        if all([member in (*NUMBERS, *WORDS) or get_origin(member) is Literal for member in members]):
            found[field.name] = members
    return found


def _check(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    choices = [choice for member in allowed if get_origin(member) is Literal for choice in get_args(member)]
    if choices:
        check_choice(name, value, [*choices, *([None] if types.NoneType in allowed else [])])
        return
    # An int is accepted for a float, as by type checkers; True is accepted for neither.
    kinds = [int if member is float else member for member in allowed] + list(allowed)
    if not isinstance(value, tuple(kinds)) or (isinstance(value, bool) and bool not in allowed):
        known = " or ".join([NUMBERS.get(member) or WORDS[member] for member in allowed])
        raise TypeError(f"{name} is {known}, not {describe(value)}")
    # Phrased so that NaN is refused too.
    if isinstance(value, int | float) and not value >= 0:
        raise ValueError(f"{name} is 0 or more, not {value}")
