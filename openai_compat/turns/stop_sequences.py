"""Finds stop sequences in text that arrives in pieces."""

from __future__ import annotations

from collections.abc import Sequence


class StopScanner:
    """Passes text through up to the first stop sequence, wherever the pieces are split.

    The first is the one that is completed first, as a model that writes token by token would meet it. Holds back only the
    end of the text that could be the start of a stop sequence. `found` is the sequence that was found; it and all later
    text are dropped.
    """

    def __init__(self, sequences: Sequence[str]) -> None:
        self._sequences = sequences
        self._prefixes = sorted({s[:n] for s in sequences for n in range(1, len(s))}, key=len, reverse=True)
        self._held = ""
        self.found: str | None = None

    def feed(self, piece: str) -> str:
        """Return the text that is now certain to be part of the answer."""
        if self.found is not None:
            return ""
        text = self._held + piece
        found = [(start + len(s), start, s) for s in self._sequences if (start := text.find(s)) >= 0]
        if found:  # the sequence that ends first wins; the longest, if several end there
            _, start, self.found = min(found)
            self._held = ""
            return text[:start]
        self._held = self._partial_match(text)
        return text[: len(text) - len(self._held)]

    def flush(self) -> str:
        """Return the text still held back, once no more text can complete a stop sequence."""
        held, self._held = self._held, ""
        return held

    def _partial_match(self, text: str) -> str:
        for prefix in self._prefixes:
            if text.endswith(prefix):
                return prefix
        return ""
