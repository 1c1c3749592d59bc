"""Writes a command's standard error to the server's log, line by line."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ...backend import RunContext

MAX_LINES = 200
"""Maximum number of logged lines per run, so that a command cannot flood the log."""

MAX_WIDTH = 500
"""Maximum number of logged characters per line."""

TAIL_LINES = 5
"""Number of last lines that are logged again with a failure."""


class StderrLog:
    """Logs chunks of stderr. `redact` is applied to every line before it is logged."""

    def __init__(self, context: RunContext, redact: Callable[[str], str]) -> None:
        self._context = context
        self._redact = redact
        self._line = b""
        self._line_count = 0
        self._last_lines: deque[str] = deque(maxlen=TAIL_LINES)

    def feed(self, data: bytes) -> None:
        """Log the lines that `data` completes; the rest of an overlong line is dropped."""
        *ends, rest = data.split(b"\n")
        for end in ends:
            self._end_line(self._line + end)
            self._line = b""
        # A character has four bytes at most; a command without line ends must not fill the memory.
        self._line = (self._line + rest)[: MAX_WIDTH * 4]

    def last_lines(self) -> str:
        """The last lines, joined by " | "."""
        self._end_line(self._line)
        self._line = b""
        return " | ".join(self._last_lines)

    def _end_line(self, line: bytes) -> None:
        text = line[: MAX_WIDTH * 4].decode("utf-8", "replace").rstrip()
        if text:
            self._last_lines.append(self._redact(text)[:MAX_WIDTH])
            self._log(self._last_lines[-1])

    def _log(self, text: str) -> None:
        self._line_count += 1
        if self._line_count <= MAX_LINES:
            self._context.logger.info("%s: stderr: %s", self._context.request_id, text)
        if self._line_count == MAX_LINES:
            self._context.logger.info("%s: further lines of stderr are not logged", self._context.request_id)
