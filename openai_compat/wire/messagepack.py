"""Checks untrusted MessagePack header by header before anything is decoded.

A few bytes can claim billions of elements, and each empty map of one byte becomes a dict of sixty-four. So the values of
a message are counted first, without building any; then the `msgpack` package decodes the message.
"""

from __future__ import annotations

import importlib
import struct
from typing import Any, cast

from ..errors import InvalidRequest
from .json import MAX_VALUES

# Deeper than any legitimate frame: the code that reads the values later recurses once per level.
MAX_DEPTH = 64

_FIXED = {
    0xC0: 0,
    0xC2: 0,
    0xC3: 0,
    0xCA: 4,
    0xCB: 8,
    0xCC: 1,
    0xCD: 2,
    0xCE: 4,
    0xCF: 8,
    0xD0: 1,
    0xD1: 2,
    0xD2: 4,
    0xD3: 8,
}
"""Number of bytes after the first byte of nil, booleans and numbers."""

_LENGTHS = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
_CONTAINERS = {0xDC: (">H", 1), 0xDD: (">I", 1), 0xDE: (">H", 2), 0xDF: (">I", 2)}
"""Encoding of the lengths of arrays and maps, and the number of values per element."""


def unpack_object(data: bytes, values: int = MAX_VALUES) -> dict[str, Any]:
    """Decode the map in `data`. Raises InvalidRequest (`invalid_frame`) for anything else.

    Also raises for extension types, keys that are not text, more than `MAX_DEPTH` levels, or more than `values` values.
    Without the `msgpack` package, the code is `msgpack_not_installed`.
    """
    package = import_msgpack()
    _check_limits(data, values)
    size = len(data)
    # Not `max_buffer_size`: it is an option of Unpacker and makes `unpackb` fail on every message.
    most = {"max_str_len": size, "max_bin_len": size, "max_array_len": size, "max_map_len": size, "max_ext_len": 0}
    try:
        value: Any = package.unpackb(data, raw=False, **most)
    except ValueError:
        raise _invalid_frame("it cannot be decoded") from None
    if not isinstance(value, dict):
        raise _invalid_frame("it must be a map")
    return cast("dict[str, Any]", value)


def import_msgpack() -> Any:
    """Import the `msgpack` package. Raises InvalidRequest (`msgpack_not_installed`)."""
    try:
        return importlib.import_module("msgpack")
    except ImportError:
        text = "This server takes no MessagePack: its 'msgpack' package is not installed. Send JSON in text frames."
        raise InvalidRequest(text, code="msgpack_not_installed") from None


def _check_limits(data: bytes, most: int) -> None:
    """Raise InvalidRequest unless `data` is a single value within the limits."""
    position = values = 0
    levels: list[list[int]] = [[1, 0]]  # per level: remaining values, and 1 if every other value is a key
    while levels:
        level = levels[-1]
        if not level[0]:
            levels.pop()
            continue
        is_key = level[1] and level[0] % 2 == 0
        level[0] -= 1
        values += 1
        if values > most:
            raise _invalid_frame(f"it holds more than {most} values")
        first = data[position] if position < len(data) else 0xA0  # truncation is reported below
        # Lists and maps cannot be dict keys, and numeric keys would be fields that nothing reads.
        if is_key and not (0xA0 <= first < 0xC0 or 0xD9 <= first <= 0xDB):
            raise _invalid_frame("keys must be text")
        position, inner, of_pairs = _skip_value(data, position)
        if inner:
            levels.append([inner, of_pairs])
            if len(levels) > MAX_DEPTH:
                raise _invalid_frame(f"it is more than {MAX_DEPTH} levels deep")
    if position != len(data):
        raise _invalid_frame("something follows its end")


def _skip_value(data: bytes, position: int) -> tuple[int, int, int]:
    """Return the position after a value or a container's header, the number of values in the container, and its map flag."""
    try:
        end, inner, of_pairs = _read_header(data, position)
    except (IndexError, struct.error):
        end, inner, of_pairs = len(data) + 1, 0, 0
    if end > len(data):
        raise _invalid_frame("it is cut short")
    return end, inner, of_pairs


def _read_header(data: bytes, position: int) -> tuple[int, int, int]:
    first, after = data[position], position + 1
    if first < 0x80 or first >= 0xE0:
        return after, 0, 0  # fixint, and negative fixint
    if first < 0x90:
        return after, (first & 15) * 2, 1  # fixmap
    if first < 0xA0:
        return after, first & 15, 0  # fixarray
    if first < 0xC0:
        return after + (first & 31), 0, 0  # fixstr
    if first in _FIXED:
        return after + _FIXED[first], 0, 0
    if first in _LENGTHS:
        size = struct.Struct(_LENGTHS[first])
        return after + size.size + size.unpack_from(data, after)[0], 0, 0
    if first in _CONTAINERS:
        size, each = struct.Struct(_CONTAINERS[first][0]), _CONTAINERS[first][1]
        return after + size.size, size.unpack_from(data, after)[0] * each, each - 1
    raise _invalid_frame("it has an extension type")


def _invalid_frame(why: str) -> InvalidRequest:
    return InvalidRequest(f"The frame is not valid MessagePack: {why}.", code="invalid_frame")


INT64, UINT64 = -(2**63), 2**64


def packb(value: Any) -> bytes:
    """Encode `value` as MessagePack; `bytes` stay bytes. Unsupported types become text; lone surrogates become U+FFFD."""
    pack: Any = importlib.import_module("msgpack").packb  # optional, but the client has sent MessagePack
    try:
        return cast("bytes", pack(value))
    except (OverflowError, TypeError, ValueError):
        return cast("bytes", pack(_to_packable(value)))


def _to_packable(value: Any) -> Any:
    if value is None or isinstance(value, bool | float | bytes):
        return value
    if isinstance(value, int):
        return value if INT64 <= value < UINT64 else str(value)  # MessagePack has no larger integers
    if isinstance(value, dict):
        return {
            _replace_surrogates(str(key)): _to_packable(item) for key, item in cast("dict[Any, Any]", value).items()
        }
    if isinstance(value, list | tuple):
        return [_to_packable(item) for item in cast("list[Any]", value)]
    return _replace_surrogates(str(value))


def _replace_surrogates(value: str) -> str:
    return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
