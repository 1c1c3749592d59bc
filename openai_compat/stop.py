"""Finding stop sequences in text that arrives in pieces."""

from __future__ import annotations

import re
from collections.abc import Sequence


class StopScanner:
    """Passes text through up to the first stop sequence, wherever the pieces are cut.

    Holds back no more than the end of the text that could be the beginning of a stop sequence. `found` is True once
    one was seen; the sequence and everything after it are dropped.
    """

    def __init__(self, sequences: Sequence[str]) -> None:
        self._pattern = re.compile("|".join([re.escape(s) for s in sequences]))
        self._prefixes = sorted({s[:n] for s in sequences for n in range(1, len(s))}, key=len, reverse=True)
        self._held = ""
        self.found = False

    def feed(self, piece: str) -> str:
        """The text that is now certain to be part of the answer."""
        if self.found:
            return ""
        text = self._held + piece
        match = self._pattern.search(text)
        if match is not None:
            self.found, self._held = True, ""
            return text[: match.start()]
        self._held = self._tail(text)
        return text[: len(text) - len(self._held)]

    def flush(self) -> str:
        """The text still held back: no stop sequence can begin in it any more."""
        held, self._held = self._held, ""
        return held

    def _tail(self, text: str) -> str:
        for prefix in self._prefixes:
            if text.endswith(prefix):
                return prefix
        return ""
