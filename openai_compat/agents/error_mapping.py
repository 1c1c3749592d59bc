"""Maps exceptions raised inside an agent to errors for the client.

Exceptions of model SDKs, and of frameworks that wrap them, are recognised by their documented names and attributes, so
that none of these packages is a dependency.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from ..errors import AgentError, OpenAICompatError

VENDORS = frozenset({"openai", "anthropic", "groq", "cerebras", "together", "httpx2", "httpx"})
"""Packages whose exceptions all concern the API that they call."""

FRAMEWORKS = frozenset(
    ["pydantic_ai", "agno", "google", "litellm", "mistralai", "cohere", "ollama", "huggingface_hub", "botocore"]
)
"""Packages whose exceptions concern a model's API only if they have an HTTP status."""

STATUS_NAMES = ("status_code", "code", "http_status")

MAX_CAUSES = 10
"""Limit of the `__cause__` chain that is followed, which may be a cycle."""

STATUS_IN_STREAM = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "rate_limit_error": 429,
    "api_error": 500,
    "server_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""HTTP status by error type, for errors inside a stream that began with status 200."""

CONTEXT_LENGTH_PHRASES = (
    "prompt is too long",
    "maximum context length",
    "context window",
    "input is too long",
    "input token count exceeds",
)


def to_public_error(error: BaseException) -> OpenAICompatError:
    """Map an exception to the error for the client: the agent's declared error, an upstream error, or "agent_error".

    The error never carries the text of an exception that was not written for the client. Never raises, however broken
    the exception is.
    """
    try:
        return _map_error(error)
    except Exception:
        return AgentError()


def _map_error(error: BaseException) -> OpenAICompatError:
    error = _unwrap_group(error)
    if isinstance(error, OpenAICompatError):
        return forbid_retry(error)
    # A timeout of the agent: the server's deadlines raise DeadlineExceeded.
    if isinstance(error, TimeoutError):
        return AgentError("The agent timed out.", status=504, code="agent_timeout")
    model_errors = [cause for cause in _causes(error) if _is_model_error(cause)]
    return _upstream_error(model_errors) if model_errors else AgentError()


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and its chain of causes (`raise … from`): frameworks wrap the exceptions of a model's SDK."""
    cause: BaseException | None = error
    for _ in range(MAX_CAUSES):
        if cause is None:
            return
        cause = _unwrap_group(cause)
        yield cause
        cause = cause.__cause__


def _is_model_error(error: BaseException) -> bool:
    # Base classes too: litellm subclasses openai's exceptions, and users subclass a framework's.
    packages = {str(kind.__module__).partition(".")[0] for kind in type(error).__mro__}
    return not packages.isdisjoint(VENDORS) or (not packages.isdisjoint(FRAMEWORKS) and _status(error) is not None)


def _unwrap_group(error: BaseException) -> BaseException:
    """Unwrap nested exception groups of one exception (anyio and mcp wrap theirs)."""
    while isinstance(error, BaseExceptionGroup):
        leaves: Sequence[BaseException] = cast("Any", error).exceptions
        # Of several exceptions, none is known to be the cause.
        if len(leaves) > 1:
            return cast("BaseException", error)
        error = leaves[0]
    return error


def forbid_retry(error: OpenAICompatError) -> OpenAICompatError:
    """Tell the client not to retry, since the agent has run, unless the error already has a `should_retry`."""
    if error.should_retry is None:
        error.should_retry = False
    return error


def _upstream_error(errors: Sequence[BaseException]) -> AgentError:
    """The error for one failure, from its exceptions; the outermost exception with a known name or status decides."""
    for error in errors:
        # By name: importing the SDKs to recognise their errors would make them dependencies.
        names = {kind.__name__ for kind in type(error).__mro__}
        if names & {"APITimeoutError", "TimeoutException"}:
            return AgentError("The model behind the agent timed out.", status=504, code="upstream_timeout")
        if names & {"APIConnectionError", "TransportError"}:
            return AgentError("The model behind the agent cannot be reached.", status=503, code="upstream_unreachable")
        status = _status(error)
        if status is not None:
            # A framework's exception has the status; the SDK's exception behind it has the response headers.
            waits = [seconds for each in errors if (seconds := _retry_after(each)) is not None]
            too_long = status == 400 and any([_is_too_long(each) for each in errors])
            return AgentError.upstream(status, retry_after=waits[0] if waits else None, too_long=too_long)
    return AgentError("The model behind the agent failed.", code="upstream_error")


def _status(error: BaseException) -> int | None:
    """The HTTP status of the API's answer."""
    response: Any = getattr(error, "response", None)
    statuses = [getattr(error, name, None) for name in STATUS_NAMES]
    if isinstance(response, Mapping):  # botocore's
        statuses.append(cast("Any", response).get("ResponseMetadata", {}).get("HTTPStatusCode"))
    else:
        statuses.append(getattr(response, "status_code", None))
    # An error inside a stream that began with 200 has only a type, in the body.
    statuses.append(STATUS_IN_STREAM.get(str(getattr(error, "type", None))))
    return next((status for status in statuses if isinstance(status, int) and 400 <= status <= 599), None)


def _is_too_long(error: BaseException) -> bool:
    """True if the error says that the conversation exceeds the context window."""
    message = str(error).lower()
    has_code = getattr(error, "code", None) == "context_length_exceeded"
    return has_code or any([phrase in message for phrase in CONTEXT_LENGTH_PHRASES])


def _retry_after(error: BaseException) -> float | None:
    """The `Retry-After` of the upstream response in seconds, if the SDKs would accept the value (0 to 120)."""
    headers: Any = getattr(getattr(error, "response", error), "headers", None)
    try:
        seconds = float("" if headers is None else headers.get("retry-after", ""))
    except (AttributeError, TypeError, ValueError):
        return None
    return seconds if 0 < seconds <= 120 else None
