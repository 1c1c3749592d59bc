"""Bounds the number of values in JSON from strangers, before objects are made of it.

Two bytes are an empty list, which is fifty-six in memory, so the size of a body says little about what it costs.
"""

from __future__ import annotations

from ..errors import InvalidRequest

MAX_VALUES = 100_000
"""Values in one message, those in others counted too. Text is one value, however long; names in objects are none."""

QUICK = 5_000
QUICK_BYTES = 1 << 20
"""Values, and bytes, that are read so fast that the event loop can wait for it."""

_BEGIN = b",[{"
_SPACE = b" \t\r\n"
_WINDOW = 1 << 16


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
