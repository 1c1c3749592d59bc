"""Joins UTF-16 surrogate halves: JavaScript may cut a character outside the BMP into two pieces."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any, TypeVar

Event = TypeVar("Event", bound=Any)

_SURROGATE = re.compile("[\ud800-\udfff]")
_HIGH_SURROGATES = ("\ud800", "\udbff")


def join_halves(text: str) -> str:
    """Return the text with each surrogate pair joined into its character; a lone surrogate becomes U+FFFD."""
    if not has_halves(text):
        return text
    # Encoding as UTF-16 joins two adjacent halves into one character.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def has_halves(text: str) -> bool:
    """True if the text contains a surrogate; nearly all text has none."""
    return not text.isascii() and _SURROGATE.search(text) is not None


def join_event_texts(event: Event) -> Event:
    """Return the dataclass with the surrogate pairs in its texts joined."""
    texts = {field.name: getattr(event, field.name) for field in fields(event)}
    cut = {name: join_halves(text) for name, text in texts.items() if isinstance(text, str) and has_halves(text)}
    return replace(event, **cut) if cut else event


class HalfJoiner:
    """Joins the chunks of one text: a high surrogate at the end of a chunk is held until the next chunk."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = ""
        """The high surrogate that waits for its other half."""

    def feed(self, piece: str) -> str:
        """Return the text that is complete so far."""
        text = self.held + piece
        self.held = text[-1:] if _HIGH_SURROGATES[0] <= text[-1:] <= _HIGH_SURROGATES[1] else ""
        return join_halves(text.removesuffix(self.held))

    def flush(self) -> str:
        """Return a replacement for the held surrogate, at the end of the text."""
        held, self.held = self.held, ""
        return join_halves(held)
