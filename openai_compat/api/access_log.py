"""The access log: one line for each request, and for each turn that no request waits for the end of."""

from __future__ import annotations

import logging
import time
from functools import lru_cache
from typing import Any

from ..agent_request import Principal
from ..policies.hooks import RefusalReason
from ..turns.turn_log import TurnLog
from .exchange import Exchange
from .services import logger
from .websocket import WebSocketConnection

SHOWN_OF = 200
"""Characters of a text from outside that are told."""

PROBES = frozenset({"/healthz", "/readyz", "/health"})
"""Asked every few seconds by machines: their good answers are not worth a line."""


def log_request(exchange: Exchange | WebSocketConnection) -> None:
    """Write the line of a request over HTTP, or of a WebSocket that has ended."""
    log_access(
        exchange.request_id,
        exchange.request.method,
        exchange.request.path,
        exchange.status,
        began=exchange.began,
        note=exchange.note,
        principal=exchange.principal,
        turn=exchange.turn,
        reason=exchange.refused,
    )


def log_access(
    request_id: str,
    method: str,
    path: str,
    status: int,
    *,
    began: float,
    note: str,
    principal: Principal,
    turn: TurnLog | None,
    reason: RefusalReason | None = None,
) -> None:
    """Write the line; its fields are on the record too (`extra`), for formats that are not text.

    `status` 0 is none; `began` is when it was asked for (`time.monotonic`); `reason` is why no agent was started.
    """
    level = logging.DEBUG if path in PROBES and 0 < status < 400 else logging.INFO
    if not logger.isEnabledFor(level):
        return
    refused = status >= 400 or not status or reason is not None
    fields: dict[str, Any] = {
        "event": "request" if turn is None else "turn",
        "request_id": request_id,
        "method": method,
        "path": _shown(path[:SHOWN_OF]),
        "status": status or None,
        "ms": int((time.monotonic() - began) * 1000),
        "principal": _shown(principal.id[:SHOWN_OF]) or None,
        "outcome": "refused" if refused else "ok",
        "reason": reason,
        "error": note if status >= 400 else None,
        "note": note,
    }
    if turn is not None:
        fields |= _of_turn(turn, began, refused=refused)
    # Not by `logger.log`, half of whose time is to look for the caller, which is always this function.
    record = logger.makeRecord(logger.name, level, __file__, 0, _Line(fields), (), None, log_access.__name__)
    record.__dict__.update(fields)
    logger.handle(record)


def _of_turn(turn: TurnLog, began: float, *, refused: bool) -> dict[str, Any]:
    info, usage, request = turn.info, turn.usage, turn.info.request
    fields: dict[str, Any] = {
        "api": info.api,
        "agent": info.agent,
        "model": _shown(request.model[:SHOWN_OF]),
        "stream": request.stream,
        "conversation": request.conversation_id and _shown(request.conversation_id[:SHOWN_OF]),
        "response": info.response_id,
        "queue_ms": None if turn.queued is None else int(turn.queued * 1000),
        "first_ms": None if turn.first is None else int((turn.first - began) * 1000),
        "input_tokens": None if usage is None else usage.input_tokens,
        "output_tokens": None if usage is None else usage.output_tokens,
        "cached_tokens": None if usage is None else usage.cached_tokens,
        "tool_calls": turn.tool_calls if turn.queued is not None else None,
        "finish": turn.finish,
        "asks": turn.asks and [_shown(name) for name in turn.asks],
    }
    if turn.outcome is not None or not refused:
        fields |= {"outcome": turn.outcome, "error": turn.error}
    return fields


FIELDS = (
    *("event", "request_id", "method", "path", "api", "status", "ms", "queue_ms", "first_ms", "stream"),
    *("agent", "model", "principal", "conversation", "response", "input_tokens", "output_tokens", "cached_tokens"),
    *("tool_calls", "finish", "asks", "outcome", "reason", "error", "note"),
)
"""The fields of the line, on its record: `request_id` is on others of the request too."""

SHOWN = (
    ("agent=", "agent", ""),
    ("principal=", "principal", ""),
    ("in=", "input_tokens", ""),
    ("out=", "output_tokens", ""),
    ("queue=", "queue_ms", "ms"),
    ("first=", "first_ms", "ms"),
    ("tools=", "tool_calls", ""),
    ("finish=", "finish", ""),
    ("outcome=", "outcome", ""),
    ("reason=", "reason", ""),
)
"""What the line tells after the time, as far as it is known and not nothing."""


class _Line:
    """The line as text, which is made where a format wants it: JSON has the fields."""

    __slots__ = ("_fields",)

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def __str__(self) -> str:
        told = self._fields
        line = f"{told['request_id']} {told['method']} {told['path']} {told['status'] or '-'} {told['ms']} ms"
        for name, field, unit in SHOWN:
            value = told.get(field)
            if value and value != "ok":
                line += f" {name}{value}{unit}"
        return f"{line} {told['note']}" if told["note"] else line


@lru_cache(256)
def _shown(text: str) -> str:
    """A text from outside. A line break in it must not begin a line of its own."""
    return text.encode("unicode_escape").decode()
