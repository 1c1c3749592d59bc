"""Requests that web pages can make a visitor's browser send to a server on the visitor's machine."""

from __future__ import annotations

import pytest

from openai_compat import Cors, Server
from tests.trust.probe import CHAT, Counting, ask, error_of, in_process

pytestmark = pytest.mark.anyio
KEY = "sk-right"
APP = "https://app.example"
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "authorization, x-stainless-os"}

FOREIGN = [
    "https://evil.example",
    "null",
    "https://app.example.evil.example",
    "https://evil.example/https://app.example",
    "https://notapp.example",
    "https://app.example@evil.example",
    "https://evil@app.example",
    "https://app.example:8443",
    "http://app.example",
    "https://app.example/",
    "HTTPS://APP.EXAMPLE",
    "https://sub.app.example",
    "*",
    "",
]


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("cors", [None, Cors([APP]), Cors(regex=r"https://app\.example")], ids=["off", "list", "regex"])
async def test_a_foreign_page_gets_no_permission(origin: str, cors: Cors | None) -> None:
    """70"""
    async with in_process(Server(Counting(), keys=KEY, cors=cors)) as client:
        headers = {"origin": origin, "authorization": f"Bearer {KEY}"}
        answers = [
            await client.post(CHAT, json=ask(), headers=headers),
            await client.post(CHAT, json=ask(), headers={"origin": origin}),
            await client.options(CHAT, headers={"origin": origin, **PREFLIGHT}),
        ]
    assert [a.headers for a in answers if "access-control-allow-origin" in a.headers] == []
    assert [a.headers for a in answers if "access-control-allow-credentials" in a.headers] == []


async def test_no_origin_that_a_browser_could_not_send_can_be_allowed() -> None:
    """70: "*" is not supported"""
    for origin in ("*", "app.example", "https://app.example/", "https://user@app.example"):
        with pytest.raises(ValueError, match="not an origin"):
            Cors([origin])


async def test_an_allowed_page_is_named_exactly_on_errors_too() -> None:
    """71"""
    async with in_process(Server(Counting(), keys=KEY, cors=Cors([APP]))) as client:
        page = {"origin": APP}
        key = {"authorization": f"Bearer {KEY}"}
        answers = [
            await client.post(CHAT, json=ask(), headers=page | key),
            await client.post(CHAT, json=ask(stream=True), headers=page | key),
            await client.post(CHAT, json=ask(model="other"), headers=page | key),
            await client.post(CHAT, json=ask(), headers=page),
            await client.delete(CHAT, headers=page | key),
            await client.get("/unknown", headers=page | key),
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 401, 405, 404]
    assert {answer.headers["access-control-allow-origin"] for answer in answers} == {APP}
    assert {answer.headers["vary"] for answer in answers} == {"Origin"}
    assert "x-request-id" in answers[0].headers["access-control-expose-headers"]


async def test_a_preflight_needs_no_key_and_runs_nothing() -> None:
    """71"""
    agent = Counting()
    async with in_process(Server(agent, keys=KEY, cors=Cors([APP]))) as client:
        answer = await client.options(CHAT, headers={"origin": APP, **PREFLIGHT})
    assert answer.status_code in (200, 204)
    assert answer.headers["access-control-allow-origin"] == APP
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "authorization, x-stainless-os"
    assert answer.headers["vary"] == "Origin"
    assert agent.runs == 0


async def test_the_vary_header_is_there_for_callers_without_an_origin_too() -> None:
    """71: a cache in between must not give one page's answer to another"""
    async with in_process(Server(Counting(), cors=Cors([APP]))) as client:
        answer = await client.post(CHAT, json=ask())
    assert answer.headers["vary"] == "Origin"


SIMPLE = [
    "text/plain",
    "text/plain; a=application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    None,
]


@pytest.mark.parametrize("content_type", SIMPLE)
@pytest.mark.parametrize(
    "page",
    [{"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}],
    ids=["origin", "null", "fetch-site"],
)
async def test_requests_that_any_page_may_send_unasked_run_nothing(
    content_type: str | None, page: dict[str, str]
) -> None:
    """72: these content types need no preflight, so the page's request arrives at once"""
    agent = Counting()
    async with in_process(Server(agent)) as client:
        headers = page if content_type is None else page | {"content-type": content_type}
        request = client.build_request("POST", CHAT, json=ask(), headers=headers)
        if content_type is None:
            del request.headers["content-type"]
        answer = await client.send(request)
    assert error_of(answer) == (415, "invalid_request_error", "unsupported_media_type", None)
    assert agent.runs == 0


async def test_a_program_may_leave_the_content_type_that_curl_sets() -> None:
    """72: a request without Origin and Sec-Fetch-Site does not come from a page"""
    async with in_process(Server(Counting())) as client:
        form = {"content-type": "application/x-www-form-urlencoded"}
        assert (await client.post(CHAT, json=ask(), headers=form)).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evil.example:8083",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "localhost:8083.evil.example",
        "localhost, evil.example",
        "localhost evil.example",
        "[::1].evil.example",
        "[::1]evil",
        "[::2]",
        "0.0.0.0",
        "127.0.0.2",
        "",
    ],
)
async def test_without_a_key_the_server_answers_to_no_other_name(host: str) -> None:
    """73: after DNS rebinding the browser's Origin and Host agree; only the host name itself reveals it"""
    agent = Counting()
    async with in_process(Server(agent)) as client:
        answer = await client.post(CHAT, json=ask(), headers={"host": host})
        models = await client.get("/v1/models", headers={"host": host})
    assert error_of(answer) == error_of(models) == (403, "permission_error", "host_not_allowed", None)
    assert agent.runs == 0


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8083", "[::1]", "[::1]:8083"])
async def test_without_a_key_the_server_answers_to_loopback_names(host: str) -> None:
    """73"""
    async with in_process(Server(Counting())) as client:
        assert (await client.post(CHAT, json=ask(), headers={"host": host})).status_code == 200


async def test_other_names_are_allowed_by_name_and_a_key_makes_any_name_good() -> None:
    """73"""
    mine = {"host": "agents.home.arpa:8083"}
    async with in_process(Server(Counting(), hosts=["agents.home.arpa"])) as client:
        assert (await client.post(CHAT, json=ask(), headers=mine)).status_code == 200
        assert (await client.post(CHAT, json=ask(), headers={"host": "localhost"})).status_code == 403
    async with in_process(Server(Counting(), keys=KEY)) as client:
        answer = await client.post(CHAT, json=ask(), headers={**mine, "authorization": f"Bearer {KEY}"})
    assert answer.status_code == 200
