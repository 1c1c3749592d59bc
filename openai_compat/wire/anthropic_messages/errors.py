"""Anthropic's error envelope, as a response of its own or inside a stream that has begun."""

from __future__ import annotations

from typing import Any

from ...errors import OpenAICompatError
from ..errors import error_headers
from ..json import dumps
from .events import event

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}

REPEATED = frozenset(["api_error", "timeout_error", "rate_limit_error"])
"""Error types in a stream that make Claude Code resend the request, or request the rest of the answer."""

TOO_LONG = "prompt is too long: "
"""Prefix that Claude Code looks for to tell the user that the conversation must be shortened."""


class AnthropicErrors:
    """The error format that Anthropic's SDKs and Claude Code read."""

    def body(self, error: OpenAICompatError, request_id: str) -> bytes:
        """Return `{"type": "error", "error": {"type", "message", "details"}, "request_id"}`."""
        return dumps({"type": "error", "error": _error_fields(error), "request_id": request_id})

    def headers(self, error: OpenAICompatError) -> list[tuple[str, str]]:
        """Return retry hints, and the headers that the error carries."""
        return error_headers(error)

    def frame(self, error: OpenAICompatError, request_id: str) -> bytes:
        """Return the error as the last event of a stream, never with a type that clients retry: the agent has already acted."""
        fields = _error_fields(error)
        if fields["type"] in REPEATED:
            fields["type"] = "agent_error"
        return event("error", error=fields, request_id=request_id)


def error_type(status: int) -> str:
    """Return the error type for a status."""
    return TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")


def _error_fields(error: OpenAICompatError) -> dict[str, Any]:
    message = error.message
    if error.code == "context_length_exceeded":
        message = TOO_LONG + message
    # The envelope has no field for `param`.
    if error.param is not None and error.param not in message:
        message = f"{error.param}: {message}"
    details = {"details": {"error_code": error.code}} if error.code is not None else {}
    return {"type": error_type(error.status), "message": message, **details}
