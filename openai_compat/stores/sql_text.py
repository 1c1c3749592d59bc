"""How texts and items are written into columns.

Neither engine takes every Python string: lone surrogates have no UTF-8, and PostgreSQL refuses NUL. Bodies are ASCII
JSON already; ids and names are escaped as in JSON, which leaves nearly all of them as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from json.encoder import encode_basestring_ascii
from typing import Any

from .port import Item, Key


def text(value: str) -> str:
    """A string as its column holds it."""
    return encode_basestring_ascii(value)[1:-1]


def text_or_none(value: str | None) -> str | None:
    """The same for columns that may be null."""
    return None if value is None else text(value)


def string(column: str) -> str:
    """A column's value as the string it was."""
    return json.loads(f'"{column}"') if "\\" in column else column


def string_or_none(column: str | None) -> str | None:
    """The same for columns that may be null."""
    return None if column is None else string(column)


def owned(key: Key) -> tuple[str, str]:
    """Principal and id as the first two parameters of a statement."""
    return text(key.principal), text(key.id)


def mapping(values: Mapping[str, str]) -> str:
    """Metadata as a column."""
    return json.dumps(dict(values))


def packed(items: Iterable[Item]) -> str:
    """Items in one column."""
    return json.dumps([(item.id, item.body) for item in items])


def unpacked(column: str) -> tuple[Item, ...]:
    """The items of one column."""
    found: list[Any] = json.loads(column)
    return tuple([Item(id_, body) for id_, body in found])
