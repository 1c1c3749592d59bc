"""Authentication, and what a refusal reveals. Numbers refer to the list of faults."""

from __future__ import annotations

import base64
import hashlib
import http.client
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from openai_compat import Server, key_from_env, key_from_file
from openai_compat.http import HttpRequest, ResponseBody, ResponseStart
from tests.transports import uvicorn_socket
from tests.trust.probe import CHAT, JSON, Counting, ask, error_of, in_process

pytestmark = pytest.mark.anyio
KEY = "sk-correct-horse-battery-staple"
WRONG = (401, "invalid_request_error", "invalid_api_key", None)
GOOD = {"authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize("value", [None, "", "Bearer", "Bearer ", "Bearer sk-wrong", "Bearer  ", "sk-wrong"], ids=repr)
async def test_no_key_an_empty_one_and_a_wrong_one_are_refused(value: str | None) -> None:
    """59"""
    agent = Counting()
    async with in_process(Server(agent, keys=KEY)) as client:
        headers = {} if value is None else {"authorization": value}
        answer = await client.post(CHAT, json=ask(), headers=headers)
    assert error_of(answer) == WRONG
    assert answer.headers["www-authenticate"] == "Bearer"
    assert agent.runs == 0


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"authorization": f"Bearer {KEY[:-1]}"}, ""),
        ({"authorization": f"Bearer {KEY}x"}, ""),
        ({"authorization": f"Bearer {KEY.upper()}"}, ""),
        ({"authorization": f"Bearer {KEY} {KEY}"}, ""),
        ({"authorization": f"Bearer {KEY},{KEY}"}, ""),
        ({"authorization": f"Bearer:{KEY}"}, ""),
        ({"authorization": f'Bearer "{KEY}"'}, ""),
        ({"authorization": KEY}, ""),
        ({"authorization": f"Token {KEY}"}, ""),
        ({"authorization": f"Basic {base64.b64encode(f'user:{KEY}'.encode()).decode()}"}, ""),
        ({"x-api-key": KEY}, ""),
        ({"api-key": KEY[:-1]}, ""),
        ({"api-key": f"Bearer {KEY}"}, ""),
        ({"api-key": KEY, "authorization": "Bearer else"}, ""),
        ({"cookie": f"api_key={KEY}; authorization=Bearer {KEY}"}, ""),
        ({"proxy-authorization": f"Bearer {KEY}"}, ""),
        ({}, f"?api_key={KEY}"),
        ({}, f"?access_token={KEY}"),
    ],
)
async def test_only_the_whole_key_in_one_of_its_two_headers_opens(headers: dict[str, str], query: str) -> None:
    """60"""
    agent = Counting()
    async with in_process(Server(agent, keys=KEY)) as client:
        answer = await client.post(CHAT + query, json=ask(), headers=headers)
    assert error_of(answer) == WRONG
    assert agent.runs == 0


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR", "Bearer  "])
async def test_the_scheme_is_case_insensitive(scheme: str) -> None:
    """61 (RFC 9110, section 11.1)"""
    async with in_process(Server(Counting(), keys=KEY)) as client:
        answer = await client.post(CHAT, json=ask(), headers={"authorization": f"{scheme} {KEY}"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "value",
    [
        "Bearer clé".encode(),
        "Bearer clé".encode("latin-1"),
        b"Bearer \xff\xfe\xfd",
        b"Bearer " + b"\xf0\x9f\x94\x91" * 3,
        b"Bearer " + b"k" * 7_000,
        b"Bearer \x01\x02\x1b[31m",
        b"Bearer \x00",
        b"Bearer " + KEY.encode() + b"\x00",
        b"Bearer " + KEY.encode() + b"\xa0",
        b"Bearer\t" + KEY.encode(),
        b"Bearer\xa0" + KEY.encode(),
    ],
    ids=repr,
)
async def test_odd_bytes_in_the_key_are_a_wrong_key_and_no_failure(value: bytes) -> None:
    """62"""
    async with in_process(Server(Counting(), keys=[KEY, "schlüssel"])) as client:
        answer = await client.post(CHAT, json=ask(), headers=[(b"authorization", value)])
    assert error_of(answer) == WRONG


@pytest.mark.parametrize("key", ["clé", "schlüssel-à-moi", "ключ", "🔑", "k" * 7_000])
async def test_a_key_may_have_any_characters_as_utf_8(key: str) -> None:
    """62, the other way: a configured key works"""
    async with in_process(Server(Counting(), keys=key)) as client:
        answer = await client.post(CHAT, json=ask(), headers=[(b"authorization", b"Bearer " + key.encode())])
    assert answer.status_code == 200


@pytest.mark.parametrize("values", [(KEY, "sk-wrong"), ("sk-wrong", KEY), (KEY, KEY)])
async def test_two_authorization_headers_are_refused(values: tuple[str, str]) -> None:
    """63"""
    agent = Counting()
    async with in_process(Server(agent, keys=KEY)) as client:
        headers = [("authorization", f"Bearer {value}") for value in values]
        answer = await client.post(CHAT, json=ask(), headers=headers)
    assert error_of(answer) == WRONG
    assert agent.runs == 0


async def test_a_refusal_tells_nothing_about_any_key() -> None:
    """64"""
    sent = "sk-sent-0123456789abcdef"
    async with in_process(Server(Counting(), keys=KEY)) as client:
        answer = await client.post(CHAT, json=ask(), headers={"authorization": f"Bearer {sent}"})
    said = answer.text + str(answer.headers)
    digests = [hashlib.new(name, key.encode()).hexdigest() for name in ("sha256", "md5") for key in (sent, KEY)]
    assert [piece for piece in (sent, sent[:7], sent[-4:], KEY, KEY[:7], *digests) if piece[:12] in said] == []


@pytest.mark.parametrize("body_headers", [{"content-length": str(100 * 1024**2)}, {"transfer-encoding": "chunked"}])
async def test_a_wrong_key_is_refused_before_the_body_is_read(body_headers: dict[str, str]) -> None:
    """65"""

    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    sent: list[ResponseStart | ResponseBody] = []

    async def send(message: ResponseStart | ResponseBody) -> None:
        sent.append(message)

    headers = [(name.encode(), value.encode()) for name, value in (JSON | body_headers).items()]
    await Server(Counting(), keys=KEY).handle(HttpRequest("POST", CHAT, "", headers, body()), send)
    assert isinstance(sent[0], ResponseStart)
    assert sent[0].status == 401


def test_a_wrong_key_is_answered_over_a_socket_before_the_body_comes() -> None:
    """65, as seen by a client that has sent only the head of its 100 MiB"""
    with uvicorn_socket(Server(Counting(), keys=KEY)) as url:
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port or 0), timeout=10) as connection:
            connection.sendall(
                b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 104857600\r\n\r\n" % CHAT.encode()
            )
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert answer.status == 401


PATHS = [
    CHAT,
    "/v1/chat/completions/",
    "//v1/chat/completions",
    "/v1//chat/completions",
    "/./v1/chat/completions",
    "/v1/./chat/completions",
    "/healthz/../v1/chat/completions",
    "/openapi.json/../v1/chat/completions",
    "/v1/models/../chat/completions",
    "/v1%2fchat%2fcompletions",
    "/v1/chat%2Fcompletions",
    "/V1/CHAT/COMPLETIONS",
    "/v1/chat/completions;x=y",
    "/v1/chat/completions%00",
    "/v1/chat/completions?x=/healthz",
    "/v1/completions",
    "/chat/completions",
    "/v1/engines/agent/completions",
    "/invocations",
    "/pause",
    "/metrics",
    "/healthz%2f..%2fv1%2fchat%2fcompletions",
]
TRICKS = [
    {},
    {"X-Original-URL": CHAT, "X-Rewrite-URL": CHAT},
    {"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1", "X-Forwarded-Host": "localhost"},
    {"X-HTTP-Method-Override": "GET", "X-Forwarded-Prefix": "/healthz"},
]


def test_no_path_and_no_header_leads_around_the_key() -> None:
    """66: paths as written on the wire, each with four tricks"""
    agent = Counting()
    with uvicorn_socket(Server(agent, keys=KEY, bare_paths=True)) as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
        statuses: dict[str, set[int]] = {}
        for path in PATHS:
            for trick in TRICKS:
                connection.request("POST", path, body=b'{"model": "agent"}', headers=JSON | trick)
                answer = connection.getresponse()
                answer.read()
                statuses.setdefault(path, set()).add(answer.status)
        connection.close()
    assert {path: found for path, found in statuses.items() if not found <= {401, 403, 404, 405, 307, 308}} == {}
    assert statuses[CHAT] == {401}
    assert agent.runs == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_what_an_agent_raises_is_not_shown(stream: bool) -> None:
    """67"""
    secrets = "password=hunter2 at /home/me/agent.py with sk-live-0123"

    async def agent(prompt: str) -> str:
        raise RuntimeError(secrets) from KeyError(secrets)

    async with in_process(Server(agent)) as client:
        answer = await client.post(CHAT, json=ask(stream=stream))
    assert error_of(answer) == (500, "server_error", "agent_error", None)
    assert [word for word in (*secrets.split(), "Traceback", "RuntimeError", "KeyError") if word in answer.text] == []


async def test_what_an_agent_raises_in_a_stream_is_not_shown() -> None:
    """67, after the stream has begun"""

    async def agent(prompt: str) -> AsyncIterator[str]:
        yield "so far"
        raise RuntimeError("password=hunter2")

    async with in_process(Server(agent)) as client:
        answer = await client.post(CHAT, json=ask(stream=True))
    assert answer.status_code == 200
    assert '"error"' in answer.text
    assert "hunter2" not in answer.text
    assert "RuntimeError" not in answer.text


SECRET = "my-secret-"


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": SECRET * 5_000},
        {"messages": SECRET * 5_000},
        {"messages": [{"role": SECRET * 5_000, "content": "hi"}]},
        {"messages": [{"role": "user", "content": [{"type": SECRET * 5_000}]}]},
        {"messages": [{"role": "user", "content": {SECRET * 5_000: 1}}]},
        {"tools": [{"type": "function", "function": {"name": SECRET * 5_000}}]},
        {"tool_choice": SECRET * 5_000},
        {"tool_choice": {"type": "function", "function": {"name": SECRET * 5_000}}},
        {"stop": SECRET * 5_000},
        {"metadata": {SECRET * 5_000: "x"}},
        {"logit_bias": {SECRET * 5_000: 1_000}},
        {"response_format": {"type": SECRET * 5_000}},
        {"reasoning_effort": SECRET * 5_000},
        {"user": [SECRET * 5_000]},
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_a_refused_value_is_not_echoed(fields: dict[str, object]) -> None:
    """68"""
    async with in_process(Server(Counting())) as client:
        answer = await client.post(CHAT, json=ask(**fields))
    assert error_of(answer)[0] == 400
    assert len(answer.content) < 600
    at_fault = next(iter(fields))
    if at_fault not in ("metadata", "logit_bias"):  # a key inside these is at fault: `param` names it, shortened
        assert SECRET not in answer.text


async def test_an_unknown_model_is_not_echoed_at_length() -> None:
    """68, 95"""
    async with in_process(Server(Counting())) as client:
        answer = await client.post(CHAT, json=ask(model=SECRET * 5_000))
    assert error_of(answer) == (404, "invalid_request_error", "model_not_found", "model")
    assert len(answer.content) < 300


async def test_nothing_may_be_cached_by_anybody() -> None:
    """69"""
    async with in_process(Server(Counting(), keys=KEY)) as client:
        answers = [
            await client.post(CHAT, json=ask(), headers=GOOD),
            await client.post(CHAT, json=ask(stream=True), headers=GOOD),
            await client.get("/v1/models", headers=GOOD),
            await client.get("/v1/models"),
            await client.get("/unknown"),
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 401, 401]
    assert [answer for answer in answers if "no-store" not in answer.headers["cache-control"]] == []


async def test_the_log_has_neither_the_key_nor_the_conversation(caplog: pytest.LogCaptureFixture) -> None:
    """79"""
    caplog.set_level(logging.DEBUG, logger="openai_compat")
    private = "my diagnosis is private"
    messages = [{"role": "user", "content": private}]

    async def agent(prompt: str) -> str:
        if "fail" in prompt:
            raise RuntimeError("the tool broke")
        return "a private answer"

    async with in_process(Server(agent, keys=KEY)) as client:
        for body in (ask(messages=messages), ask(messages=messages, stream=True), ask(messages=messages, n="x")):
            await client.post(CHAT, json=body, headers=GOOD)
        await client.post(CHAT, json=ask(), headers={"authorization": "Bearer sk-nearly-right"})
        await client.post(f"{CHAT}?api_key={KEY}", json=ask(messages=messages))
        await client.post(CHAT, json=ask(messages=[{"role": "user", "content": "fail"}]), headers=GOOD)
    ours = "\n".join([record.getMessage() for record in caplog.records if record.name == "openai_compat"])
    assert "200" in ours
    assert "invalid_api_key" in ours
    assert [word for word in (KEY, "sk-nearly-right", "private") if word in caplog.text] == []


@pytest.mark.parametrize("source", [lambda: None, lambda: "", list, lambda: ["", ""], key_from_env("UNSET_KEY")])
async def test_a_server_that_must_have_a_key_and_has_none_is_disabled_not_open(source: object) -> None:
    """80"""
    agent = Counting()
    async with in_process(Server(agent, keys=source)) as client:
        for headers in ({}, GOOD, {"authorization": "Bearer "}):
            answer = await client.post(CHAT, json=ask(), headers=headers)
            assert error_of(answer) == (503, "server_error", "chat_endpoint_disabled", None)
    assert agent.runs == 0


async def test_a_rotated_key_counts_from_the_next_request_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """81: in a file, in the environment, behind a function"""
    current = ["old"]
    file = tmp_path / "keys"

    def rotate(key: str) -> None:
        current[0] = key
        file.write_text(f"# the key\n{key}\n", "utf-8")
        monkeypatch.setenv("ROTATED_KEY", key)

    async def asynchronous() -> str:
        return current[0]

    for source in (lambda: current[0], asynchronous, key_from_file(file), key_from_env("ROTATED_KEY")):
        rotate("old")
        async with in_process(Server(Counting(), keys=source)) as client:
            statuses = [await _status(client, key) for key in ("old", "new")]
            rotate("new")
            statuses += [await _status(client, key) for key in ("old", "new")]
        assert statuses == [200, 401, 401, 200]


async def test_each_of_several_keys_opens() -> None:
    """82: the position in the list makes no key special"""
    async with in_process(Server(Counting(), keys=["one", "two", "three"])) as client:
        assert [await _status(client, key) for key in ("one", "two", "three", "four")] == [200, 200, 200, 401]


async def test_forwarding_headers_are_not_believed() -> None:
    """83"""
    spoofed = {
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-host": "localhost",
        "forwarded": "for=127.0.0.1;host=localhost",
    }
    async with in_process(Server(Counting(), keys=KEY)) as client:
        assert error_of(await client.post(CHAT, json=ask(), headers=spoofed)) == WRONG
    async with in_process(Server(Counting())) as client:
        answer = await client.post(CHAT, json=ask(), headers={**spoofed, "host": "evil.example"})
    assert error_of(answer) == (403, "permission_error", "host_not_allowed", None)


async def test_the_list_of_models_is_as_protected_as_the_rest() -> None:
    """84"""
    async with in_process(Server(Counting(), keys=KEY)) as client:
        for path in ("/v1/models", "/v1/models/agent"):
            assert error_of(await client.get(path)) == WRONG
            assert (await client.get(path, headers=GOOD)).status_code == 200


async def _status(client: httpx2.AsyncClient, key: str) -> int:
    answer = await client.post(CHAT, json=ask(), headers={"authorization": f"Bearer {key}"})
    return answer.status_code
