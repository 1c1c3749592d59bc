"""Values as JSON bytes, and the framing of server-sent events."""

from __future__ import annotations

import json
import re
from json.encoder import encode_basestring
from typing import Any, cast

from pydantic_core import PydanticSerializationError, from_json, to_json

# The blank line is part of it: an event without one behind it is none (WHATWG HTML), the last one too.
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
"""A comment: every client skips lines that begin with a colon (WHATWG HTML, server-sent events). The blank line is for
those that read block by block."""

KEEP_ALIVE_BESIDE_IDS = b": keep-alive\n"
"""The comment of streams whose events have ids: where one was seen, openai-python takes each further blank line for the
end of an event, here one without data, and fails."""

_SURROGATE = re.compile("[\ud800-\udfff]")


def dumps(value: Any) -> bytes:
    """`value` as strict JSON: lone surrogates, which UTF-8 cannot carry, become U+FFFD; NaN becomes null."""
    try:
        # Nearly always it works at once: looking for surrogates first would cost more than it takes to write.
        return to_json(value, inf_nan_mode="null")
    except PydanticSerializationError:
        return to_json(_without_surrogates(value), inf_nan_mode="null")


def dump_texts(texts: list[str]) -> list[bytes]:
    """Each of `texts` as `dumps` writes it, several times as fast where there are many."""
    try:
        return list(map(str.encode, map(encode_basestring, texts)))  # nothing of Python's is called for each
    except UnicodeEncodeError:  # a lone surrogate
        return [dumps(text) for text in texts]


def stored_json(value: Any) -> str:
    """`value` as JSON in ASCII, which any database can keep: NUL and lone surrogates are escaped. NaN becomes null."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return json.dumps(from_json(to_json(_without_surrogates(value), inf_nan_mode="null")), separators=(",", ":"))


def from_stored_json(text: str) -> Any:
    """The value that `stored_json` wrote as `text`."""
    return json.loads(text)


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        # Never joined to the character that two of them may stand for: the halves that an agent has cut are joined
        # before they come here (`utf16`), and of others a stream has to say what the plain answer says.
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        fields = cast("dict[Any, Any]", value)
        return {_without_surrogates(key): _without_surrogates(item) for key, item in fields.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(item) for item in cast("list[Any]", value)]
    return value


def sse(value: Any) -> bytes:
    """`value` as the data of a server-sent event."""
    # No `event:` line: several clients of chat fail on a stream that has some.
    return b"data: " + dumps(value) + b"\n\n"


def is_json_object(text: str) -> bool:
    """True if a text is a JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def same_json(one: str, other: str) -> bool:
    """True if two texts are equal JSON, however they are written."""
    try:
        return json.dumps(json.loads(one), sort_keys=True) == json.dumps(json.loads(other), sort_keys=True)
    except (ValueError, RecursionError):
        return False
