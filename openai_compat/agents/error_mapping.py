"""Maps exceptions raised inside an agent to errors for the client.

Exceptions of the openai, anthropic and httpx clients are told by the names and attributes they are documented to
have, so that none of these packages is needed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from ..errors import AgentError, OpenAICompatError

VENDORS = frozenset({"openai", "anthropic", "httpx2", "httpx"})

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
"""The status that an error told within a stream, whose own status is 200, would have had, by its type."""

CONTEXT_LENGTH_PHRASES = ("prompt is too long", "maximum context length", "context window")


def to_public_error(error: BaseException) -> OpenAICompatError:
    """The error to answer with: the agent's own declared one, a mapped upstream one, or a plain "agent_error".

    None of them carries the text of an exception that was not written for the client. Never raises, however broken
    the exception is.
    """
    try:
        return _mapped(error)
    except Exception:
        return AgentError()


def _mapped(error: BaseException) -> OpenAICompatError:
    error = _single(error)
    if isinstance(error, OpenAICompatError):
        return without_retry(error)
    # The agent's own: the server's deadlines raise DeadlineExceeded.
    if isinstance(error, TimeoutError):
        return AgentError("The agent timed out.", status=504, code="agent_timeout")
    if type(error).__module__.partition(".")[0] in VENDORS:
        return _upstream(error)
    return AgentError()


def _single(error: BaseException) -> BaseException:
    """The one leaf of nested exception groups that hold just one (anyio and mcp wrap theirs)."""
    while isinstance(error, BaseExceptionGroup):
        leaves: Sequence[BaseException] = cast("Any", error).exceptions
        # Which of several is the cause, nobody knows.
        if len(leaves) > 1:
            return cast("BaseException", error)
        error = leaves[0]
    return error


def without_retry(error: OpenAICompatError) -> OpenAICompatError:
    """The same, telling the client not to repeat the request, unless it says itself what to do: the agent has run."""
    if error.should_retry is None:
        error.should_retry = False
    return error


def _upstream(error: BaseException) -> AgentError:
    # By name: importing the vendors' SDKs to recognise their errors would make them dependencies.
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"APITimeoutError", "TimeoutException"}:
        return AgentError("The model behind the agent timed out.", status=504, code="upstream_timeout")
    if names & {"APIConnectionError", "TransportError"}:
        return AgentError("The model behind the agent cannot be reached.", status=503, code="upstream_unreachable")
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
    # An error inside a stream that began with 200 has its type only in the body.
    if not isinstance(status, int) or status < 400:
        status = STATUS_IN_STREAM.get(getattr(error, "type", None) or "")
    if status is None:
        return AgentError("The model behind the agent failed.", code="upstream_error")
    too_long = status == 400 and (
        getattr(error, "code", None) == "context_length_exceeded"
        or any([phrase in str(error).lower() for phrase in CONTEXT_LENGTH_PHRASES])
    )
    return upstream_error(status, _retry_after(getattr(response, "headers", None)), too_long=too_long)


def upstream_error(status: int, retry_after: float | None = None, *, too_long: bool = False) -> AgentError:
    """The client's error for an HTTP status of the API of the model behind the agent.

    `retry_after` is in seconds; `too_long` says that the conversation did not fit into the model.
    """
    if status == 429:
        text = "The model behind the agent has reached its rate limit."
        return AgentError(text, status=429, code="rate_limit_exceeded", retry_after=retry_after)
    if status in (401, 403):
        # Never their 401: the client would take it for a word about its own key.
        return AgentError(
            "The model behind the agent refused the agent's credentials.", status=502, code="upstream_auth"
        )
    if too_long:
        text = "The conversation is longer than the model behind the agent can take."
        return AgentError(text, status=400, code="context_length_exceeded")
    if status >= 500:
        text = "The model behind the agent is overloaded or down."
        return AgentError(text, status=503, code="upstream_unavailable", retry_after=retry_after)
    return AgentError("The model behind the agent refused the agent's request.", code="upstream_error")


def _retry_after(headers: Mapping[str, Any] | None) -> float | None:
    """The `Retry-After` of the upstream answer in seconds, if it is a number the SDKs would accept (0 to 120)."""
    try:
        seconds = float((headers or {}).get("retry-after", ""))
    except (TypeError, ValueError):
        return None
    return seconds if 0 < seconds <= 120 else None
