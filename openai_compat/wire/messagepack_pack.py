"""Values as MessagePack, by the optional `msgpack` package."""

from __future__ import annotations

import importlib
from typing import Any, cast

INT64, UINT64 = -(2**63), 2**64


def packb(value: Any) -> bytes:
    """`value` as MessagePack; `bytes` stay bytes. What it cannot carry becomes text, lone surrogates become U+FFFD."""
    pack: Any = importlib.import_module("msgpack").packb  # optional; the client has sent such a frame before
    try:
        return cast("bytes", pack(value))
    except (OverflowError, TypeError, ValueError):
        return cast("bytes", pack(_plain(value)))


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | float | bytes):
        return value
    if isinstance(value, int):
        return value if INT64 <= value < UINT64 else str(value)
    if isinstance(value, dict):
        return {_text(str(key)): _plain(item) for key, item in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast("list[Any]", value)]
    return _text(str(value))


def _text(value: str) -> str:
    return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
