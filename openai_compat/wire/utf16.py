"""Text in UTF-16 halves, as JavaScript cuts it: a character beyond the first plane may come in two pieces."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any, TypeVar

Event = TypeVar("Event", bound=Any)

_HALF = re.compile("[\ud800-\udfff]")
_FIRST = ("\ud800", "\udbff")


def joined(text: str) -> str:
    """The text with each pair of halves as the character it stands for; a half that stands alone becomes U+FFFD."""
    if not has_halves(text):
        return text
    # Two halves in a row become one character on the way through UTF-16.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def has_halves(text: str) -> bool:
    """True if there is half a character in it; nearly all text has none."""
    return not text.isascii() and _HALF.search(text) is not None


def with_joined_texts(event: Event) -> Event:
    """A dataclass with the characters whole that its texts were cut into."""
    texts = {field.name: getattr(event, field.name) for field in fields(event)}
    cut = {name: joined(text) for name, text in texts.items() if isinstance(text, str) and has_halves(text)}
    return replace(event, **cut) if cut else event


class HalfJoiner:
    """Joins the pieces of one text: a first half at the end of a piece waits for the piece after it."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = ""
        """The half that waits for the other one."""

    def feed(self, piece: str) -> str:
        """The text that is now known."""
        text = self.held + piece
        self.held = text[-1:] if _FIRST[0] <= text[-1:] <= _FIRST[1] else ""
        return joined(text.removesuffix(self.held))

    def flush(self) -> str:
        """A replacement for the half that waits, at the end of the text."""
        held, self.held = self.held, ""
        return joined(held)
