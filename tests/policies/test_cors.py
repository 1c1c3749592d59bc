"""CORS: the web pages that may call the server."""

from __future__ import annotations

import pytest

from openai_compat import ChatRest, Cors, Server
from openai_compat.http import HttpRequest
from openai_compat.policies.cors import is_preflight
from tests.requirements import requirement
from tests.support.exchanges import one


def asked(origin: str | None, *headers: tuple[bytes, bytes], method: str = "POST") -> HttpRequest:
    own = [] if origin is None else [(b"origin", origin.encode("latin-1"))]
    return HttpRequest(method, "/v1/models", "", [*own, *headers], one(b""))


CORS = Cors(["https://app.example", "http://localhost:3000"], regex=r"https://[a-z]+\.team\.example")


@pytest.mark.parametrize("origin", ["https://app.example", "http://localhost:3000", "https://dev.team.example"])
def test_an_allowed_origin_is_named_exactly(origin: str) -> None:
    headers = dict(CORS.headers(asked(origin)))
    assert (headers["Access-Control-Allow-Origin"], headers["Vary"]) == (origin, "Origin")


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "https://app.example.evil.example",
        "https://app.example:444",
        "http://app.example",
        "https://app.example/",
        "https://APP.example",
        "https://evil.example",
        "https://user@app.example",
        "https://a.b.team.example",
        "https://dev.team.example.evil.example",
        "https://evil.example/?https://dev.team.example",
        "",
    ],
)
def test_any_other_origin_is_not_named(origin: str | None) -> None:
    assert CORS.headers(asked(origin)) == [("Vary", "Origin")]


def test_the_expression_has_to_match_as_a_whole() -> None:
    assert not Cors(regex="https://app").allows("https://app.evil.example")
    assert Cors(regex=".*").allows("null")


@pytest.mark.parametrize(
    "origin", ["*", "app.example", "https://app.example/", "https://user@app.example", "ftp://a", ""]
)
def test_what_no_browser_sends_as_an_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="not an origin"):
        Cors([origin])


def test_a_preflight_is_told_by_its_headers() -> None:
    wants = (b"access-control-request-method", b"POST")
    assert is_preflight(asked("https://app.example", wants, method="OPTIONS"))
    assert not is_preflight(asked("https://app.example", method="OPTIONS"))
    assert not is_preflight(asked(None, wants, method="OPTIONS"))
    assert not is_preflight(asked("https://app.example", wants))


def test_a_preflight_is_allowed_the_headers_it_asks_for() -> None:
    wants = (b"access-control-request-headers", b"authorization, x-stainless-lang")
    assert dict(CORS.preflight_headers(asked("https://app.example", wants)))["Access-Control-Allow-Headers"] == (
        "authorization, x-stainless-lang"
    )


@requirement("chat_rest.cookie.pages")
def test_origins_that_are_not_named_one_by_one_are_refused_at_start() -> None:
    for cors in (Cors(regex=".*"), Cors(["https://app.example"], regex="https://.*[.]app[.]example")):
        with pytest.raises(ValueError, match="name each origin"):
            Server(lambda prompt: prompt, keys="secret", cors=cors, chat_rest=ChatRest(cookie="session"))
    with pytest.raises(ValueError, match="not an origin"):
        Cors(["*"])
