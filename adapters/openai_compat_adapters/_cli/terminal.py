"""Untrusted text in the terminal: its control characters are shown, not executed."""

from __future__ import annotations

PICTURES = 0x2400
"""Code point of the first control picture; U+241B shows Escape."""

DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the writing direction, and can so disguise text."""


def visible(text: str) -> str:
    """Make text safe for a terminal: all control characters but newline and tab become visible."""
    if text.isprintable():
        return text
    return "".join([character if character in "\n\t" else _visible(character) for character in text])


def _visible(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(PICTURES + code)
    if code == 0x7F:
        return "\u2421"  # its picture is apart from the others
    if code < 0xA0 and code > 0x7F:
        return f"\\x{code:02x}"
    if character in DIRECTIONS or 0xD800 <= code < 0xE000:
        return f"\\u{code:04x}"
    return character
