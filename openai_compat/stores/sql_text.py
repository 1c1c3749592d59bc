"""Conversion of strings and items to columns and back.

Neither engine accepts every Python string: lone surrogates have no UTF-8, and PostgreSQL refuses NUL. Bodies are ASCII
JSON already. In ids and names only these characters are escaped: a PostgreSQL index entry has room for 2,700 bytes.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from .port import Item, Key
from .sql_dialect import Dialect

# The backslash is escaped too, so that escapes can be told from text.
_REFUSED = re.compile(r"[\0\\\ud800-\udfff]")
_ESCAPED = re.compile(r"\\(....)")

SMALL = 16 * 1024
"""Frames below this size, in bytes, are written uncompressed: compressing them would cost more than writing them."""

RAW = -zlib.MAX_WBITS
"""Raw deflate. A checksum would be a quarter of the work, and the engine's pages have their own."""


def text(value: str) -> str:
    """A string as a column."""
    return _REFUSED.sub(lambda found: f"\\{ord(found[0]):04x}", value)


def text_or_none(value: str | None) -> str | None:
    """A string or None as a column."""
    return None if value is None else text(value)


def string(column: str) -> str:
    """The string of a column."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), column) if "\\" in column else column


def string_or_none(column: str | None) -> str | None:
    """The string or None of a column."""
    return None if column is None else string(column)


def key_columns(key: Key) -> tuple[str, str]:
    """Principal and id as the first two parameters of a statement."""
    return text(key.principal), text(key.id)


def metadata_column(values: Mapping[str, str]) -> str:
    """Metadata as a column: the JSON of an object."""
    # ASCII, so that NUL and lone surrogates survive in either engine.
    return json.dumps(dict(values))


def pack_items(items: Iterable[Item]) -> str:
    """Items in one column, as JSON; `unpack_items` reads it."""
    return json.dumps([(item.id, item.body) for item in items])


def unpack_items(column: str) -> tuple[Item, ...]:
    """The items of one column."""
    found: list[Any] = json.loads(column)
    return tuple([Item(id_, body) for id_, body in found])


def frames_column(dialect: Dialect, frames: bytes) -> str | bytes:
    """A batch of frames as a column, compressed here if the engine does not compress large texts.

    Frames of one stream are so alike that compressing them costs less than writing them.
    """
    return frames.decode() if dialect.compresses or len(frames) < SMALL else zlib.compress(frames, 1, RAW)


def frames_of(column: str | bytes) -> bytes:
    """The frames of a column."""
    return column.encode() if isinstance(column, str) else zlib.decompress(column, RAW)
