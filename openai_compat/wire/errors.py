"""OpenAI's error envelope, as a response of its own or inside a stream that has begun."""

from __future__ import annotations

from typing_extensions import TypedDict

from ..errors import OpenAICompatError
from .json import dumps, sse

RETRIED_TYPES = frozenset({"server_error", "rate_limit_error"})
"""Error types that make coding agents retry a turn endlessly when received inside a stream."""


def envelope(error: OpenAICompatError) -> ErrorEnvelope:
    """Return the JSON body of an error response; all four keys are always present."""
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def error_body(error: OpenAICompatError) -> bytes:
    """Return the encoded error envelope."""
    return dumps(envelope(error))


def error_headers(error: OpenAICompatError) -> list[tuple[str, str]]:
    """Return the headers of an error response: retry hints, and the headers that the error carries."""
    headers = list(error.headers.items())
    # Retry-After is defined for these statuses (RFC 9110, RFC 6585).
    if error.retry_after is not None and error.status in (429, 503):
        headers.append(("Retry-After", f"{error.retry_after:g}"))
    # OpenAI's SDKs obey this header first; without it they retry 408, 409, 429 and every status from 500 on.
    if error.should_retry is not None:
        headers.append(("X-Should-Retry", "true" if error.should_retry else "false"))
    return headers


def error_frame(error: OpenAICompatError) -> bytes:
    """Return an SSE error, which SDKs raise as APIError. It has no `choices`, and never a type that clients retry."""
    body = envelope(error)
    # Coding agents resend the request on these types, although the agent has already acted.
    if body["error"]["type"] in RETRIED_TYPES:
        body["error"]["type"] = "agent_error"
    # No `[DONE]` follows: a truncated response would pass for a complete one.
    return sse(body)


class ErrorDetail(TypedDict):
    """The error itself. OpenAI's specification requires all four keys; `param` and `code` may be null."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(TypedDict):
    """The body of every error response."""

    error: ErrorDetail
