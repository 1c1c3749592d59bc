"""Splits bytes into lines of limited length."""

from __future__ import annotations


class LineTooLong(Exception):
    """A line is longer than the limit."""


class LineSplitter:
    """Collects bytes and returns whole lines, without line ends; `limit` is in bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes. Raises LineTooLong, even for an unfinished line."""
        *ends, rest = data.split(b"\n")
        lines = [self._take_line(end) for end in ends]
        self._append(rest)
        return lines

    def end(self) -> list[bytes]:
        """The last line, if it has no line end."""
        return [self._take_line(b"")] if self._size else []

    def _take_line(self, end: bytes) -> bytes:
        self._append(end)
        line = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return line

    def _append(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            raise LineTooLong(f"a line is longer than {self._limit} bytes")
        if piece:
            self._pieces.append(piece)
