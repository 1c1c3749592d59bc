"""Reports requests to hooks, and requests that are refused before they become a turn."""

from __future__ import annotations

import time

from ..errors import OpenAICompatError
from ..policies.hooks import RequestOutcome
from ..turns.hooked_run import HookSet
from ..turns.refusals import refusal_reason
from .access_log import log_access
from .exchange import Exchange
from .routing import openapi_path
from .websocket import WebSocketConnection


def request_outcome(exchange: Exchange | WebSocketConnection, *, agent_started: bool) -> RequestOutcome:
    """The outcome of a request, for hooks."""
    return RequestOutcome(
        route=None if exchange.route is None else openapi_path(exchange.route),
        status=exchange.status,
        note=exchange.note,
        principal=exchange.principal.id,
        agent_started=agent_started,
        seconds=exchange.seconds,
    )


def report_refused(hooks: HookSet, exchange: Exchange | WebSocketConnection) -> None:
    """Report to hooks that a request was refused, if it was."""
    hooks.refused(exchange.request_id, exchange.principal.id, exchange.refused, exchange.note)


def report_refused_frame(
    hooks: HookSet, connection: WebSocketConnection, error: OpenAICompatError, request_id: str
) -> None:
    """Report to hooks and the log that a frame was refused before it became a turn, which would report its own refusal."""
    reason, note, principal = refusal_reason(error), error.code or error.type, connection.principal
    if reason is None:
        return
    hooks.refused(request_id, principal.id, reason, note)
    log_access(
        request_id,
        "chat",
        connection.request.path,
        error.status,
        began=time.monotonic(),
        note=note,
        principal=principal,
        turn=None,
        reason=reason,
    )
