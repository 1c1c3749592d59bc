"""Every error a client can see. Each class knows its HTTP status and its OpenAI envelope.

    OpenAICompatError
    ├── InvalidRequest          400  the request is wrong; `param` says where
    │   ├── RequestTimeout      408  the body did not arrive in time
    │   ├── RequestTooLarge     413  the body is over the limit
    │   ├── UnsupportedMedia    415  the body is not JSON, or is compressed in an unknown way
    │   └── UpgradeRequired     426  a WebSocket is required, and this server has none
    ├── Unauthorized            401
    ├── Forbidden               403
    ├── NotFound                404
    ├── MethodNotAllowed        405
    ├── Conflict                409  the object is in use, for instance by a running turn
    ├── RateLimited             429  with the time to retry after
    ├── Unavailable             503  with the time to retry after
    ├── DeadlineExceeded        504
    └── AgentError              500  raised by agents; status, code and message are theirs to choose

Any other exception that leaves the library is a bug, and is answered with a plain 500.
The messages of these errors are written for the client. Other exceptions of an agent are logged and never shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

__all__ = (
    "MAX_MESSAGE",
    "AgentError",
    "Conflict",
    "DeadlineExceeded",
    "Forbidden",
    "InvalidRequest",
    "MethodNotAllowed",
    "NotFound",
    "OpenAICompatError",
    "RateLimited",
    "RequestTimeout",
    "RequestTooLarge",
    "Unauthorized",
    "Unavailable",
    "UnsupportedMedia",
    "UpgradeRequired",
)

MAX_MESSAGE = 1000
"""Maximum length of an error message in characters, so that an envelope that quotes input stays under 10 kB."""


class OpenAICompatError(Exception):
    """Base of all errors with an OpenAI envelope; raise one of its subclasses.

    Attributes:
        status: HTTP status code.
        type: `error.type` of the envelope, for instance `invalid_request_error`.
        code: `error.code`, the machine-readable reason, or None.
        param: `error.param`, the request field at fault (`messages[0].role`), or None.
        retry_after: seconds for the `Retry-After` header, or None.
        should_retry: value of the `x-should-retry` header that OpenAI's SDKs obey; None leaves the choice to the client.
        headers: further response headers.
    """

    status: int = 500
    type: str = "server_error"
    code: str | None = None
    # OpenAI's SDKs do not retry at all if `Retry-After` is more than 120 s.
    retry_after: float | None = None
    should_retry: bool | None = None
    default_headers: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
        self.param = param
        self.headers = {**self.default_headers, **(headers or {})}
        if code is not None:
            self.code = code
        if retry_after is not None:
            self.retry_after = retry_after
        if should_retry is not None:
            self.should_retry = should_retry


class InvalidRequest(OpenAICompatError):
    """The request is malformed, out of range, or needs a capability that the agent has not declared."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class RequestTimeout(InvalidRequest):
    """The request body did not arrive in time; no agent was started."""

    status = 408
    code = "request_timeout"
    # The unread rest of the body would be parsed as the next request (RFC 9112, 9.3).
    default_headers = MappingProxyType({"Connection": "close"})


class RequestTooLarge(InvalidRequest):
    """The request body exceeds the limit; the rest was not read."""

    status = 413
    code = "request_too_large"
    # As above: the connection still carries the rest of this body.
    default_headers = MappingProxyType({"Connection": "close"})


class UnsupportedMedia(InvalidRequest):
    """The body has a content type or content encoding that is not accepted."""

    status = 415
    code = "unsupported_media_type"


class UpgradeRequired(InvalidRequest):
    """The path needs a WebSocket, and the hosting server (any WSGI server, for one) does not support WebSockets."""

    status = 426
    code = "websocket_not_supported"
    # A 426 must name the protocol (RFC 9110, 15.5.22).
    default_headers = MappingProxyType({"Upgrade": "websocket"})


class Unauthorized(OpenAICompatError):
    """The API key is missing or wrong. The message never quotes what was sent."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"
    # A 401 must say how to authenticate (RFC 9110, 15.5.2).
    default_headers = MappingProxyType({"WWW-Authenticate": "Bearer"})


class Forbidden(OpenAICompatError):
    """The caller may not do this."""

    status = 403
    type = "permission_error"
    code = "forbidden"


class NotFound(OpenAICompatError):
    """The model, path or object does not exist."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class MethodNotAllowed(OpenAICompatError):
    """The path does not support this method; the `Allow` header lists the supported ones."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_supported"


class Conflict(OpenAICompatError):
    """The object is in use: a turn runs in the conversation, or a request with the same idempotency key is running."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"


class RateLimited(OpenAICompatError):
    """Too many requests at once; nothing was started."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    retry_after = 1.0


class Unavailable(OpenAICompatError):
    """The server, or a dependency of the agent, is temporarily unavailable."""

    status = 503
    code = "service_unavailable"
    retry_after = 5.0


class DeadlineExceeded(OpenAICompatError):
    """The turn exceeded the server's deadline; the agent was stopped."""

    status = 504
    code = "timeout"


class AgentError(OpenAICompatError):
    """A failure that the agent declares, with a message that the client may see.

    ```python
    raise AgentError("The calendar is closed today.", status=409, code="calendar_closed")
    ```

    By default the response tells the client not to retry (`x-should-retry: false`), since the agent had started and may
    have had side effects; `should_retry=True` declares that a retry is safe.
    """

    type = "server_error"
    code = "agent_error"
    should_retry = False

    def __init__(
        self,
        message: str = "The agent failed.",
        *,
        status: int = 500,
        type: str | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not 400 <= status <= 599:
            raise ValueError(f"status must be an HTTP error, 400 to 599, not {status}")
        super().__init__(
            message, code=code, param=param, retry_after=retry_after, should_retry=should_retry, headers=headers
        )
        self.status = status
        if self.retry_after is None:
            self.retry_after = _RETRY_AFTER.get(status)
        self.type = type or _type_for(status)

    @classmethod
    def upstream(cls, status: int, *, retry_after: float | None = None, too_long: bool = False) -> AgentError:
        """Create the client's error for a failure of the model behind the agent, from the HTTP status of its API.

        ```python
        raise AgentError.upstream(429, retry_after=20)
        ```

        `retry_after` is in seconds; `too_long` means that the conversation exceeded the context window. The messages are
        fixed and quote nothing from the API. Exceptions of the common client libraries need no such line: the server maps
        them on its own.
        """
        if too_long:
            text = "The conversation is longer than the model behind the agent can take."
            return cls(text, status=400, code="context_length_exceeded")
        if status == 429:
            text = "The model behind the agent has reached its rate limit."
            return cls(text, status=429, code="rate_limit_exceeded", retry_after=retry_after)
        if status in (401, 403):
            # Never the upstream 401: the client would take it for an error of its own key.
            text = "The model behind the agent refused the agent's credentials."
            return cls(text, status=502, code="upstream_auth")
        if status >= 500:
            text = "The model behind the agent is overloaded or down."
            return cls(text, status=503, code="upstream_unavailable", retry_after=retry_after)
        return cls("The model behind the agent refused the agent's request.", code="upstream_error")


_RETRY_AFTER = {429: RateLimited.retry_after, 503: Unavailable.retry_after}


def _type_for(status: int) -> str:
    if status == 429:
        return RateLimited.type
    if status >= 500:
        return "server_error"
    return "invalid_request_error"
