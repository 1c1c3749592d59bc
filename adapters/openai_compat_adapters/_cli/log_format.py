"""The log on stderr: lines for people, or one JSON object a line for programs."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import click

COLORS = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}
FIELDS = ("request_id", "method", "path", "status", "ms", "note")
"""Extra fields of the core's log records."""


def log_to_stderr(level: str, layout: str = "text") -> None:
    """Log to stderr from `level` on, unless a loaded module has configured logging."""
    handler = logging.StreamHandler()
    as_text = TextFormatter("%(asctime)s %(message)s", datefmt="%H:%M:%S")
    handler.setFormatter(JsonFormatter() if layout == "json" else as_text)
    logging.basicConfig(handlers=[handler])
    logging.captureWarnings(layout == "json")  # so that every line on stderr is JSON
    logging.getLogger("openai_compat").setLevel(level.upper())


class TextFormatter(logging.Formatter):
    """Lines with the level of warnings and errors, which have a color in a terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        """The line without the traceback."""
        line = super().formatMessage(record)
        if record.levelno < logging.WARNING:
            return line
        line = line.replace(" ", f" {record.levelname} ", 1)  # behind the time
        return click.style(line, COLORS.get(record.levelno)) if sys.stderr.isatty() else line


class JsonFormatter(logging.Formatter):
    """`time` (UTC, ISO 8601), `level`, `message`, the fields of the access line, and `traceback`, where there is one.

    An access line has its fields and no message, which would only repeat them.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry: dict[str, Any] = {"time": time, "level": record.levelname.lower()}
        entry |= {name: vars(record)[name] for name in FIELDS if name in vars(record)}
        if "method" not in entry:
            entry["message"] = record.getMessage()
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)
