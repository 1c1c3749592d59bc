"""Generates values of the SDK's parameter types: the minimal and the maximal ones that a client can write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

from openai._types import SequenceNotStr
from typing_extensions import get_type_hints, is_typeddict

SPECIAL: Mapping[str, Sequence[Any]] = {
    "call_id": ["call_x"],
    "image_url": ["data:image/png;base64,aGk="],
    "file_data": ["data:text/plain;base64,aGk="],
    "encrypted_content": ["eyJzdW1tYXJ5IjogInMifQ=="],
    "pattern": ["a"],
    "temperature": [0.5],
    "top_p": [0.5],
    "presence_penalty": [0.5],
    "frequency_penalty": [0.5],
}
"""Values for fields of this name, where the type says less than OpenAI does."""


def values(kind: Any, name: str = "") -> list[Any]:
    """Values of a type: every alternative of a union at least once, nulls included."""
    if name in SPECIAL:
        return list(SPECIAL[name])
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Required, NotRequired, Annotated):
        return values(arguments[0], name)
    if origin in (Union, UnionType):
        return [value for argument in arguments for value in values(argument, name)]
    if origin is Literal:
        return list(arguments)
    if is_typeddict(kind):
        return list(_objects(kind))
    if origin in (list, Iterable, SequenceNotStr, Sequence) or getattr(origin, "__name__", "") in LISTS:
        return [[value] for value in values(arguments[0], name)]
    if origin in (dict, Mapping):
        return [{"key": value} for value in values(arguments[1], name)]
    return {
        str: ["text"],
        int: [1],
        float: [1.0],
        bool: [True, False],
        NoneType: [None],
        object: [{"key": "value"}],
    }.get(kind, [{"key": "value"}])


LISTS = frozenset(["SequenceNotStr", "Iterable", "list"])


def _objects(kind: Any) -> Iterator[dict[str, Any]]:
    """The minimal object, the maximal one, and the minimal one with each other value of each field."""
    hints = get_type_hints(kind, include_extras=True)
    known = {name: values(hint, name) for name, hint in hints.items()}
    required = {name: known[name][0] for name in known if get_origin(hints[name]) is Required}
    yield required
    yield {name: next((value for value in options if value is not None), None) for name, options in known.items()}
    for name, options in known.items():
        yield from ({**required, name: value} for value in options[name in required :])
