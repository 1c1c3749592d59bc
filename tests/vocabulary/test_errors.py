"""Errors define their form on the wire: status, envelope and headers."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat import errors
from openai_compat.errors import (
    MAX_MESSAGE,
    AgentError,
    Conflict,
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    OpenAICompatError,
    RateLimited,
    RequestTimeout,
    RequestTooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedMedia,
    UpgradeRequired,
)
from openai_compat.wire.errors import RETRIED_TYPES, error_body, error_frame, error_headers
from tests.support import strategies
from tests.support.exchanges import sse_events, strict_json

ON_THE_WIRE = {
    InvalidRequest: (400, "invalid_request_error", "invalid_request"),
    Unauthorized: (401, "invalid_request_error", "invalid_api_key"),
    Forbidden: (403, "permission_error", "forbidden"),
    NotFound: (404, "invalid_request_error", "not_found"),
    MethodNotAllowed: (405, "invalid_request_error", "method_not_supported"),
    Conflict: (409, "invalid_request_error", "conflict"),
    RequestTimeout: (408, "invalid_request_error", "request_timeout"),
    RequestTooLarge: (413, "invalid_request_error", "request_too_large"),
    UnsupportedMedia: (415, "invalid_request_error", "unsupported_media_type"),
    UpgradeRequired: (426, "invalid_request_error", "websocket_not_supported"),
    RateLimited: (429, "rate_limit_error", "rate_limit_exceeded"),
    Unavailable: (503, "server_error", "service_unavailable"),
    DeadlineExceeded: (504, "server_error", "timeout"),
    AgentError: (500, "server_error", "agent_error"),
}
KINDS = st.sampled_from([*ON_THE_WIRE])


def test_every_error_has_its_place_on_the_wire() -> None:
    kinds = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, OpenAICompatError)}
    assert kinds == {*ON_THE_WIRE, OpenAICompatError}
    for kind, expected in ON_THE_WIRE.items():
        error = kind("text")
        assert (error.status, error.type, error.code) == expected


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    tree = errors.__doc__ or ""
    for kind, (status, _, _) in ON_THE_WIRE.items():
        (line,) = [line for line in tree.splitlines() if f"─ {kind.__name__} " in line]
        assert f"{status}" in line.split()
        nested = kind.__mro__[1] is not OpenAICompatError
        assert line.startswith("    │   ") == nested


@given(KINDS, strategies.texts, st.none() | strategies.texts, st.none() | strategies.texts)
def test_an_envelope_is_whole_strict_and_small_whatever_the_text(
    kind: type[OpenAICompatError], text: str, code: str | None, param: str | None
) -> None:
    error = kind(text * 500, code=code, param=param)
    body = error_body(error)
    (envelope,) = strict_json(body).values()
    assert set(envelope) == {"message", "type", "param", "code"}
    assert len(envelope["message"]) <= MAX_MESSAGE
    assert len(body) < 10_000
    ((frame,),) = [event.values() for event in sse_events(error_frame(error))]
    assert frame == envelope | {"type": frame["type"]}
    assert frame["type"] not in RETRIED_TYPES


def test_a_long_message_is_cut_visibly() -> None:
    assert InvalidRequest("x" * MAX_MESSAGE).message == "x" * MAX_MESSAGE
    assert InvalidRequest("x" * (MAX_MESSAGE + 1)).message == "x" * (MAX_MESSAGE - 1) + "…"


def test_all_of_an_envelope_can_be_chosen() -> None:
    error = NotFound(
        "No such file.", code="no_file", param="file", retry_after=3, should_retry=True, headers={"X-A": "b"}
    )
    assert strict_json(error_body(error)) == {
        "error": {"message": "No such file.", "type": "invalid_request_error", "param": "file", "code": "no_file"}
    }
    assert error_headers(error) == [("X-A", "b"), ("X-Should-Retry", "true")]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InvalidRequest("no"), []),
        (RateLimited("no"), [("Retry-After", "1")]),
        (RateLimited("no", retry_after=2.5), [("Retry-After", "2.5")]),
        (Unavailable("no", should_retry=False), [("Retry-After", "5"), ("X-Should-Retry", "false")]),
        (Unauthorized("no"), [("WWW-Authenticate", "Bearer")]),
        (RequestTooLarge("no"), [("Connection", "close")]),
        (RequestTimeout("no"), [("Connection", "close")]),
        (AgentError("no"), [("X-Should-Retry", "false")]),
        (AgentError("no", should_retry=True), [("X-Should-Retry", "true")]),
        (AgentError("no", status=429, retry_after=7), [("Retry-After", "7"), ("X-Should-Retry", "false")]),
    ],
)
def test_headers_say_whether_and_when_to_come_back(error: OpenAICompatError, expected: list[tuple[str, str]]) -> None:
    assert error_headers(error) == expected


def test_headers_of_one_error_are_its_own() -> None:
    RequestTooLarge("no").headers["X-Mine"] = "1"
    assert RequestTooLarge("no").headers == {"Connection": "close"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (409, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (599, "server_error"),
    ],
)
def test_an_agents_error_has_the_type_that_goes_with_its_status(status: int, kind: str) -> None:
    assert AgentError("no", status=status).type == kind
    assert AgentError("no", status=status, type="my_error").type == "my_error"


@pytest.mark.parametrize("status", [200, 302, 399, 600, 0, -1])
def test_an_agents_error_has_the_status_of_an_error(status: int) -> None:
    with pytest.raises(ValueError, match="status must be an HTTP error"):
        AgentError("no", status=status)
