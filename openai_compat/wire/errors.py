"""Errors as OpenAI's envelope: in an answer of their own, or inside a stream that has begun."""

from __future__ import annotations

from typing_extensions import TypedDict

from ..errors import OpenAICompatError
from .json import dumps, sse

RETRIED_TYPES = frozenset({"server_error", "rate_limit_error"})
"""Types that make coding agents run a turn again and again when they meet them inside a stream."""


def envelope(error: OpenAICompatError) -> ErrorEnvelope:
    """The JSON body of an error answer: always all four keys."""
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def error_body(error: OpenAICompatError) -> bytes:
    """The envelope of an error, as bytes."""
    return dumps(envelope(error))


def error_headers(error: OpenAICompatError) -> list[tuple[str, str]]:
    """The headers that go with it: retry hints and whatever the error brings itself."""
    headers = list(error.headers.items())
    # The statuses for which it is defined (RFC 9110, RFC 6585).
    if error.retry_after is not None and error.status in (429, 503):
        headers.append(("Retry-After", f"{error.retry_after:g}"))
    # OpenAI's SDKs obey it before the status: by that, they would repeat 408, 409, 429 and all from 500 on.
    if error.should_retry is not None:
        headers.append(("X-Should-Retry", "true" if error.should_retry else "false"))
    return headers


def error_frame(error: OpenAICompatError) -> bytes:
    """An error inside a stream: SDKs raise it as APIError. Without `choices`, and never of a type that is retried."""
    body = envelope(error)
    # Coding agents send the request again at these types, and the agent has already acted.
    if body["error"]["type"] in RETRIED_TYPES:
        body["error"]["type"] = "agent_error"
    # Nor is `[DONE]` behind it: half an answer would pass for a whole one.
    return sse(body)


class ErrorDetail(TypedDict):
    """What went wrong. All four keys are required by OpenAI's specification; `param` and `code` may be null."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(TypedDict):
    """The body of every error answer."""

    error: ErrorDetail
