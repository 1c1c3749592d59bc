"""The access log: one line per request, and one per turn that outlives its request or came over a WebSocket."""

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
"""Paths that load balancers poll every few seconds: their successful answers are logged at DEBUG only."""


def log_request(exchange: Exchange | WebSocketConnection) -> None:
    """Log an HTTP request, or a WebSocket that has ended."""
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
    """Write one line. Its fields are also on the record, as with `extra`, for formats other than text.

    `status` 0 means none was sent; `began` is when the request came in (`time.monotonic`); `reason` is why no agent was started.
    """
    level = logging.DEBUG if path in PROBES and 0 < status < 400 else logging.INFO
    if logger.isEnabledFor(level):
        line = make_line(
            request_id, method, path, status, began=began, note=note, principal=principal.id, turn=turn, reason=reason
        )
        # `logger.log` would spend half its time looking up the caller, which is always this function.
        if logging.getLogRecordFactory() is not logging.LogRecord or type(logger) is not logging.Logger:
            logger.handle(ordinary_record(logger, level, line))
        elif logger.filters:
            logger.handle(access_record(level, line))
        else:
            logger.callHandlers(access_record(level, line))
