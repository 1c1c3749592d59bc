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
"""What the core's records carry beside their message."""


def log_to_stderr(level: str, layout: str = "text") -> None:
    """Show the server's log from `level` on, unless a loaded module has set logging up in its own way."""
    handler = logging.StreamHandler()
    as_text = TextFormatter("%(asctime)s %(message)s", datefmt="%H:%M:%S")
    handler.setFormatter(JsonFormatter() if layout == "json" else as_text)
    logging.basicConfig(handlers=[handler])
    logging.captureWarnings(layout == "json")
    logging.getLogger("openai_compat").setLevel(level.upper())


class TextFormatter(logging.Formatter):
    """Warnings and errors say that they are; in a terminal they have a color."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        """The line, before a traceback is added to it."""
        line = super().formatMessage(record)
        if record.levelno < logging.WARNING:
            return line
        line = line.replace(" ", f" {record.levelname} ", 1)
        return click.style(line, COLORS.get(record.levelno)) if sys.stderr.isatty() else line


class JsonFormatter(logging.Formatter):
    """`time` (UTC, ISO 8601), `level`, `message`, the fields of the access line, and `traceback`, where there is one.

    An access line is its fields alone: they say all that the text would.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry: dict[str, Any] = {"time": time, "level": record.levelname.lower()}
        entry |= {name: vars(record)[name] for name in FIELDS if name in vars(record)}
        if "method" not in entry:
            entry["message"] = record.getMessage()
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)
