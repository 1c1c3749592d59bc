"""JSON from strangers, bounded before objects are made of it; JSON for clients and stores; the framing of server-sent events."""

from __future__ import annotations

import json
import math
import re
from codecs import BOM_UTF8
from json.encoder import encode_basestring
from typing import Any, cast

from pydantic_core import PydanticSerializationError, from_json, to_json

from ..errors import InvalidRequest

# Two bytes are an empty list, which is fifty-six in memory: the size of a body says little about what it costs.
MAX_VALUES = 100_000
"""Values in one message, those in others counted too. Text is one value, however long; names in objects are none."""

QUICK = 5_000
QUICK_BYTES = 1 << 20
"""Values, and bytes, that are read so fast that the event loop can wait for it."""

_BEGIN = b",[{"
_SPACE = b" \t\r\n"
_WINDOW = 1 << 16

# The blank line is part of it: an event without one behind it is none (WHATWG HTML), the last one too.
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
"""A comment: every client skips lines that begin with a colon (WHATWG HTML, server-sent events). The blank line is for
those that read block by block."""

KEEP_ALIVE_BESIDE_IDS = b": keep-alive\n"
"""The comment of streams whose events have ids: where one was seen, openai-python takes each further blank line for the
end of an event, here one without data, and fails."""

_SURROGATE = re.compile("[\ud800-\udfff]")


def is_quick(data: bytes) -> bool:
    """True if JSON is read in no time. A guess: it is made for each request, and a wrong one does no harm."""
    # Two bytes are the least that a value takes.
    return len(data) <= 2 * QUICK or (len(data) <= QUICK_BYTES and data.count(b",") <= QUICK)


def check_values(data: bytes, most: int = MAX_VALUES) -> None:
    """Raise InvalidRequest if `data`, which is said to be JSON, holds more than so many values."""
    if len(data) > 2 * most and _may_hold_more(data, most) and _count(data, most) > most:
        text = f"The body holds more than {most} values: objects, lists, texts and numbers."
        raise InvalidRequest(text, code="too_many_values")


def _may_hold_more(data: bytes, most: int) -> bool:
    """True if there may be more values: what looks like one within a text is counted too."""
    found = 1
    for start in range(0, len(data), _WINDOW):
        part = data[start : start + _WINDOW]
        found += len(part) - len(part.translate(None, _BEGIN))
        if found > most:
            return True
    return False


def _count(data: bytes, most: int) -> int:
    """The values in JSON, or some number above `most`. Of what is no JSON, some number.

    Without what is escaped, the quotes are those around texts, and every other piece between them is outside of one.
    """
    outside: list[bytes] = []
    found, quotes, in_text, escape = 1, 0, False, b""
    for start in range(0, len(data), _WINDOW):
        window = escape + data[start : start + _WINDOW]
        kept = window.rstrip(b"\\")
        escape = b"\\" * ((len(window) - len(kept)) % 2)
        # In this order: a quote behind an escaped backslash ends the text.
        pieces = kept.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        part = b'"'.join(pieces[in_text::2]).translate(None, _SPACE)
        in_text ^= len(pieces) % 2 == 0
        outside += [part, b'"'] if in_text else [part]
        found += len(part) - len(part.translate(None, _BEGIN))
        quotes += len(pieces) - 1
        # Half of what was found may be `[]` and `{}`, which hold nothing; each value may have a name, and four quotes.
        if found > 2 * most or quotes > 4 * most:
            return found + quotes
    whole = b"".join(outside)
    return found - whole.count(b"[]") - whole.count(b"{}")


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Raises InvalidRequest for anything else, NaN and infinities included.

    A byte order mark before it, which some programs write, is passed over.
    """
    value = decode_object(body)
    check_finite(value)
    return value


def parse_json(body: bytes) -> Any:
    """The JSON value in `body`, likewise."""
    try:
        value: Any = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise _no_json(error) from None
    check_finite(value)
    return value


def decode_object(body: bytes) -> dict[str, Any]:
    """As `parse_object`, but for numbers that are too large: `check_finite` is still to be called."""
    try:
        value: Any = from_json(body.removeprefix(BOM_UTF8), allow_inf_nan=False)
    except ValueError as error:
        raise _no_json(error) from None
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return cast("dict[str, Any]", value)


def _no_json(error: ValueError) -> InvalidRequest:
    return InvalidRequest(f"The body is not valid JSON: {error}.")


def check_finite(value: Any) -> None:
    """Raise InvalidRequest if a number was too large for a float (`1e999`)."""
    # One loop over all values: searching the text is slower.
    values: list[Any] = [value]
    for item in values:  # it grows meanwhile
        kind = item.__class__
        if kind is dict:
            values += item.values()
        elif kind is list:
            values += item
        elif kind is float and math.isinf(item):
            raise InvalidRequest("The body has a number that is too large.")


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
