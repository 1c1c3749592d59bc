"""The access log: one line for each request, and for each turn that no request waits for the end of."""

from __future__ import annotations

import logging

from ..agent_request import Principal
from ..policies.hooks import RefusalReason
from ..turns.turn_log import TurnLog
from .access_record import access_record, make_line, ordinary_record
from .exchange import Exchange
from .services import logger
from .websocket import WebSocketConnection

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
    if logger.isEnabledFor(level):
        line = make_line(
            request_id, method, path, status, began=began, note=note, principal=principal.id, turn=turn, reason=reason
        )
        # Not by `logger.log`, half of whose time is to look for the caller, which is always this function.
        if logging.getLogRecordFactory() is not logging.LogRecord or type(logger) is not logging.Logger:
            logger.handle(ordinary_record(logger, level, line))
        elif logger.filters:
            logger.handle(access_record(level, line))
        else:
            logger.callHandlers(access_record(level, line))
