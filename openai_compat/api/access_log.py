"""The access log: one line for each request, and for each response that was made over a WebSocket."""

from __future__ import annotations

import logging

from .services import logger

PROBES = frozenset({"/healthz", "/readyz", "/health"})
"""Asked every few seconds by machines: their good answers are not worth a line."""


def log_access(  # noqa: PLR0917  (the order of the line)
    request_id: str, method: str, path: str, status: int, milliseconds: int, note: str
) -> None:
    """Write the line; its fields are on the record too (`extra`), for formats that are not text. 0 is no status."""
    level = logging.DEBUG if path in PROBES and 0 < status < 400 else logging.INFO
    if not logger.isEnabledFor(level):
        return
    fields = {
        "request_id": request_id,
        "method": method,
        # A line break in a path must not begin a line of its own.
        "path": path[:200].encode("unicode_escape").decode(),
        "status": status or None,
        "ms": milliseconds,
        "note": note,
    }
    line = "{request_id} {method} {path} {shown} {ms} ms {note}".format(**fields, shown=status or "-")
    logger.log(level, "%s", line.rstrip(), extra=fields)
