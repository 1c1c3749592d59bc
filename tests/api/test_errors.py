"""Failures, and what the client gets."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import anthropic
import anyio
import anyio.to_thread
import httpx2
import openai
import pytest

from openai_compat import (
    AgentError,
    Citation,
    Deadlines,
    Finished,
    Limits,
    MediaDelta,
    Paused,
    PendingCall,
    Progress,
    ReasoningDelta,
    RunContext,
    Server,
    TextDelta,
    ToolCallReady,
    ToolCallStarted,
    UsageReported,
)
from openai_compat_adapters.client import sync_openai
from tests.connecting import Connect, Http, in_process
from tests.requirements import requirement
from tests.support.agents import HELLO, Says
from tests.support.listening import data_of, hear

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "agent", "messages": HELLO}
SECRET = "postgres://admin:hunter2@db"


async def silent(prompt: str) -> AsyncIterator[str]:
    await anyio.sleep_forever()
    yield ""


async def broken(prompt: str) -> str:
    raise RuntimeError(SECRET)


@dataclass
class Case:
    """A failing request, and its error."""

    status: int
    code: str | None
    type: str = "invalid_request_error"
    param: str | None = None
    agent: Any = broken
    method: str = "POST"
    path: str = CHAT
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: Any = field(default_factory=lambda: ASK)
    server: dict[str, Any] = field(default_factory=dict[str, Any])
    answer_headers: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


CASES = {
    "no JSON": Case(400, "invalid_request", body=b'{"model": '),
    "no object": Case(400, "invalid_request", body=[1]),
    "a wrong value": Case(400, "invalid_value", param="n", body=ASK | {"n": 0}),
    "no key": Case(401, "invalid_api_key", server={"keys": "k"}, answer_headers={"www-authenticate": "Bearer"}),
    "a wrong key": Case(401, "invalid_api_key", server={"keys": "k"}, headers={"authorization": "Bearer x"}),
    "another Host": Case(403, "host_not_allowed", type="permission_error", headers={"host": "evil.example"}),
    "an unknown path": Case(404, "unknown_url", path="/v1/nothing"),
    "an unknown path, by GET": Case(404, "unknown_url", path="/", method="GET", body=b""),
    "an unknown model": Case(404, "model_not_found", param="model", body=ASK | {"model": "other"}),
    "a wrong method": Case(
        405, "method_not_supported", method="PUT", body=b"", answer_headers={"allow": "POST, GET, HEAD"}
    ),
    "another wrong method": Case(
        405, "method_not_supported", method="DELETE", path="/v1/models", body=b"", answer_headers={"allow": "GET, HEAD"}
    ),
    "a long body": Case(413, "request_too_large", server={"limits": Limits(body=40)}),
    "a body compressed in an unknown way": Case(415, "unsupported_media_type", headers={"content-encoding": "br"}),
    "a body compressed twice": Case(415, "unsupported_media_type", headers={"content-encoding": "gzip, gzip"}),
    "a body that is not as compressed as it says": Case(400, "invalid_request", headers={"content-encoding": "gzip"}),
    "a form from a page": Case(
        415, "unsupported_media_type", headers={"content-type": "text/plain", "origin": "https://evil.example"}
    ),
    "a broken agent": Case(500, "agent_error", type="server_error", answer_headers={"x-should-retry": "false"}),
    "no keys configured": Case(
        503,
        "chat_endpoint_disabled",
        type="server_error",
        server={"keys": []},
        answer_headers={"retry-after": "5", "x-should-retry": "false"},
    ),
    "a silent agent": Case(
        504,
        "timeout",
        type="server_error",
        agent=silent,
        server={"deadlines": Deadlines(request=0.1)},
        answer_headers={"x-should-retry": "false"},
    ),
}


@requirement("errors.envelope")
@pytest.mark.parametrize("name", CASES)
async def test_every_error_has_the_envelope_its_status_and_a_request_id(name: str, http: Http) -> None:
    case = CASES[name]
    headers = {"content-type": "application/json"} | case.headers
    async with http(case.agent, **case.server) as client:
        answer = await client.request(case.method, case.path, content=case.content, headers=headers)
    error = answer.json()["error"]
    assert answer.status_code == case.status
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    assert list(answer.json()) == ["error"]
    assert isinstance(error.pop("message"), str)
    assert error == {"type": case.type, "param": case.param, "code": case.code}
    assert {name: answer.headers.get(name) for name in case.answer_headers} == case.answer_headers
    assert SECRET not in answer.text
    assert len(answer.content) < 4096


@requirement("errors.envelope")
@in_process
async def test_the_sdk_raises_the_class_that_belongs_to_each_status(connect: Connect) -> None:
    expected = {
        400: openai.BadRequestError,
        401: openai.AuthenticationError,
        403: openai.PermissionDeniedError,
        404: openai.NotFoundError,
        409: openai.ConflictError,
        422: openai.UnprocessableEntityError,
        429: openai.RateLimitError,
        500: openai.InternalServerError,
        503: openai.InternalServerError,
    }
    agents = {str(status): Says(AgentError("Declared.", status=status)) for status in expected}
    raised: dict[int, type[Exception]] = {}
    async with connect(agents) as client:
        for status in expected:
            with pytest.raises(openai.APIStatusError) as caught:
                await client.chat.completions.create(model=str(status), messages=HELLO)
            raised[status] = type(caught.value)
    assert raised == expected


@requirement("errors.envelope")
@pytest.mark.parametrize("stream", [False, True])
async def test_a_server_that_shuts_down_takes_no_new_turns(stream: bool, connect: Connect) -> None:
    agent = Says("Hi")
    server = Server(agent)
    async with connect(server) as client:
        await client.chat.completions.create(model="agent", messages=HELLO)
        server.services.live.slots.closed = True
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="agent", messages=HELLO, stream=stream)
    assert (caught.value.status_code, caught.value.code) == (503, "shutting_down")
    assert caught.value.response.headers["retry-after"] == "5"
    assert len(agent.requests) == 1


@requirement("errors.envelope")
@in_process
async def test_a_stream_that_failed_before_it_had_anything_to_show_has_its_real_status(connect: Connect) -> None:
    agent = Says(UsageReported(10, 0), Citation("http://a/", "A", 0, 0), AgentError("Overloaded.", status=503))
    async with connect(agent) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="agent", messages=HELLO, stream=True)
    assert (caught.value.status_code, caught.value.message) == (503, "Error code: 503 - Overloaded.")


# request ids and logs


@requirement("errors.request-id")
async def test_the_request_id_of_every_answer_leads_to_its_line_in_the_log(
    http: Http, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "openai_compat")  # probes are logged at DEBUG
    async with http({"agent": Says("Hi"), "broken": broken}) as client:
        answers = [
            await client.post(CHAT, json=ASK),
            await client.post(CHAT, json=ASK | {"stream": True}),
            await client.post(CHAT, json=ASK | {"model": "broken"}),
            await client.get("/nothing"),
            await client.get("/healthz"),
        ]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    lines = [
        next(r.getMessage() for r in caplog.records if i in r.getMessage() and " ms" in r.getMessage()) for i in ids
    ]
    assert [line.split()[1:4] for line in lines] == [
        ["POST", CHAT, "200"],
        ["POST", CHAT, "200"],
        ["POST", CHAT, "500"],
        ["GET", "/nothing", "404"],
        ["GET", "/healthz", "200"],
    ]


@requirement("errors.private")
async def test_what_an_exception_says_is_in_the_log_and_not_on_the_wire(
    http: Http, caplog: pytest.LogCaptureFixture
) -> None:
    agents = {"at once": Says(RuntimeError(SECRET)), "later": Says("so far ", RuntimeError(SECRET))}
    async with http(agents) as client:
        answers = [
            await client.post(CHAT, json=ASK | {"model": model, "stream": stream})
            for model in agents
            for stream in (False, True)
        ]
    assert [answer.status_code for answer in answers] == [500, 500, 500, 200]
    for answer in answers:
        request_id = answer.headers["x-request-id"]
        failed = next(record for record in caplog.records if request_id in record.getMessage() and record.exc_info)
        assert SECRET in str(failed.exc_info)
        assert failed.levelno == logging.ERROR
        assert SECRET not in answer.text + str(answer.headers)
        assert "Traceback" not in answer.text


@requirement("errors.request-id")
@in_process
async def test_the_agent_can_log_with_the_same_request_id(http: Http, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "openai_compat")

    async def agent(prompt: str, context: RunContext) -> str:
        context.logger.info("looking it up")
        return context.request_id

    async with http(agent) as client:
        answer = await client.post(CHAT, json=ASK)
    record = next(record for record in caplog.records if record.getMessage() == "looking it up")
    said = answer.json()["choices"][0]["message"]["content"]
    assert answer.headers["x-request-id"] == said == record.__dict__["request_id"]


# retries


FAILING: dict[str, list[Any]] = {
    "breaks": [RuntimeError("x")],
    "has a limit": [AgentError("No.", status=429)],
    "is busy": [AgentError("No.", status=409)],
    "times out": [TimeoutError()],
    "breaks in mid-stream": ["so far", RuntimeError("x")],
}


@requirement("errors.run-once")
@pytest.mark.parametrize("stream", [False, True])
async def test_the_sdks_two_retries_do_not_run_a_failed_agent_again(stream: bool, connect: Connect) -> None:
    agents = {name: Says(*items) for name, items in FAILING.items()}

    async def ask(client: openai.AsyncOpenAI, model: str) -> None:
        answer: Any = await client.chat.completions.create(model=model, messages=HELLO, stream=stream)
        heard = await hear(answer)
        assert heard.error is not None
        raise heard.error

    async with connect(agents, max_retries=2) as client:
        for name in agents:
            with pytest.raises(openai.APIError):
                await ask(client, name)
    assert {name: len(agent.requests) for name, agent in agents.items()} == dict.fromkeys(FAILING, 1)


@requirement("errors.run-once")
@in_process
async def test_an_agent_that_ran_out_of_time_is_not_run_again(connect: Connect) -> None:
    runs: list[str] = []

    async def slow(prompt: str) -> AsyncIterator[str]:
        runs.append(prompt)
        await anyio.sleep_forever()
        yield ""

    async with connect(slow, max_retries=2, deadlines=Deadlines(request=0.1)) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="agent", messages=HELLO)
    assert (caught.value.status_code, caught.value.code) == (504, "timeout")
    assert len(runs) == 1


@requirement("errors.declared")
@in_process
async def test_an_agent_can_say_that_it_is_safe_to_run_it_again(connect: Connect) -> None:
    runs: list[str] = []

    async def agent(prompt: str) -> str:
        runs.append(prompt)
        if len(runs) == 1:
            raise AgentError("Not yet.", status=503, should_retry=True, retry_after=0.01)
        return "Now."

    async with connect(agent, max_retries=2) as client:
        answer = await client.chat.completions.create(model="agent", messages=HELLO)
    assert answer.choices[0].message.content == "Now."
    assert len(runs) == 2


@requirement("errors.retry-after")
async def test_who_comes_when_all_slots_are_taken_is_told_when_to_come_back(connect: Connect) -> None:
    go = threading.Event()

    async def patient(prompt: str) -> AsyncIterator[str]:
        yield "begun"
        await anyio.to_thread.run_sync(go.wait, 10)

    async with connect(patient, limits=Limits(slots=1)) as client:
        stream = await client.chat.completions.create(model="agent", messages=HELLO, stream=True)
        try:
            await anext(aiter(stream))
            with pytest.raises(openai.RateLimitError) as caught:
                await client.chat.completions.create(model="agent", messages=HELLO)
        finally:
            go.set()
        assert (await hear(stream)).error is None
    assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "rate_limit_error")
    assert caught.value.response.headers["retry-after"] == "1"
    assert "x-should-retry" not in caught.value.response.headers


@requirement("errors.retry-after")
@in_process
async def test_the_sdk_comes_back_when_it_was_told_to_and_is_answered(http: Http) -> None:
    go = threading.Event()
    statuses: list[int] = []

    async def patient(prompt: str) -> AsyncIterator[str]:
        yield "Hi"
        await anyio.to_thread.run_sync(go.wait, 10)

    async def seen(response: httpx2.Response) -> None:
        statuses.append(response.status_code)
        if response.status_code == 429:
            go.set()

    async with http(patient, limits=Limits(slots=1)) as inner:
        inner.event_hooks = {"response": [seen]}
        client = openai.AsyncOpenAI(base_url=inner.base_url.join("/v1"), api_key="x", max_retries=2, http_client=inner)
        stream = await client.chat.completions.create(model="agent", messages=HELLO, stream=True)
        answer = await client.chat.completions.create(model="agent", messages=HELLO)
        await stream.close()
    assert answer.choices[0].message.content == "Hi"
    assert statuses == [200, 429, 200]


# what agents declare


@requirement("errors.declared")
@pytest.mark.parametrize("stream", [False, True])
async def test_a_declared_error_keeps_what_it_says(stream: bool, connect: Connect) -> None:
    error = AgentError(
        "The calendar is closed today.",
        status=409,
        type="calendar_error",
        code="calendar_closed",
        param="messages",
        headers={"X-Calendar": "a\r\nX-Evil: 1"},
    )
    async with connect(Says(error)) as client:
        with pytest.raises(openai.ConflictError) as caught:
            await client.chat.completions.create(model="agent", messages=HELLO, stream=stream)
    assert caught.value.body == {
        "message": "The calendar is closed today.",
        "type": "calendar_error",
        "param": "messages",
        "code": "calendar_closed",
    }
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert caught.value.response.headers["x-calendar"] == "a  X-Evil: 1"
    assert "x-evil" not in caught.value.response.headers


@requirement("errors.declared")
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (402, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (529, "server_error"),
    ],
)
@in_process
async def test_the_type_of_a_declared_error_follows_its_status(status: int, kind: str, connect: Connect) -> None:
    async with connect(Says(AgentError("No.", status=status))) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(model="agent", messages=HELLO)
    assert (caught.value.status_code, caught.value.type, caught.value.code) == (status, kind, "agent_error")


# failures in mid-stream


@requirement("errors.mid-stream")
async def test_a_failure_in_mid_stream_is_the_text_so_far_then_an_error_and_a_proper_end(http: Http) -> None:
    agents = {"agent": Says("so ", "far", RuntimeError(SECRET)), "fine": Says("Hi")}
    async with http(agents) as client:
        answer = await client.post(CHAT, json=ASK | {"stream": True})
        after = await client.post(CHAT, json=ASK | {"model": "fine"})
    *chunks, last = data_of(answer.text)
    choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert [choice["delta"].get("content") for choice in choices] == ["", "so ", "far"]
    assert {choice["finish_reason"] for choice in choices} == {None}
    assert json.loads(last) == {
        "error": {"message": "The agent failed.", "type": "agent_error", "param": None, "code": "agent_error"}
    }
    assert answer.text.endswith("}\n\n")
    assert answer.status_code == after.status_code == 200


@requirement("errors.mid-stream")
@pytest.mark.parametrize(
    ("error", "message", "kind", "code"),
    [
        (RuntimeError("x"), "The agent failed.", "agent_error", "agent_error"),
        (AgentError("Sold out.", status=429, code="sold_out"), "Sold out.", "agent_error", "sold_out"),
        (AgentError("Sold out.", status=503), "Sold out.", "agent_error", "agent_error"),
        (AgentError("Sold out.", status=409), "Sold out.", "invalid_request_error", "agent_error"),
        (AgentError("Sold out.", type="shop_error"), "Sold out.", "shop_error", "agent_error"),
        (TimeoutError(), "The agent timed out.", "agent_error", "agent_timeout"),
    ],
)
@in_process
async def test_the_sdk_raises_an_api_error_of_a_type_that_no_client_retries(
    error: Exception, message: str, kind: str, code: str, connect: Connect
) -> None:
    async with connect(Says("so far", error)) as client:
        heard = await hear(await client.chat.completions.create(model="agent", messages=HELLO, stream=True))
    assert (heard.text, heard.finish_reasons) == ("so far", ())
    assert heard.error is not None
    assert type(heard.error) is openai.APIError
    assert (heard.error.message, heard.error.type, heard.error.code) == (message, kind, code)


@requirement("errors.mid-stream")
@in_process
async def test_text_held_back_for_a_stop_sequence_is_part_of_the_text_so_far(connect: Connect) -> None:
    async with connect(Says("so far <e", RuntimeError("x"))) as client:
        heard = await hear(
            await client.chat.completions.create(model="agent", messages=HELLO, stream=True, stop="<end>")
        )
    assert heard.text == "so far <e"
    assert heard.error is not None


@requirement("errors.mid-stream")
@in_process
async def test_a_stream_that_runs_out_of_time_ends_with_an_error(connect: Connect) -> None:
    async def endless(prompt: str) -> AsyncIterator[str]:
        yield "so far"
        await anyio.sleep_forever()

    async with connect(endless, deadlines=Deadlines(request=1.0)) as client:
        heard = await hear(await client.chat.completions.create(model="agent", messages=HELLO, stream=True))
    assert (heard.text, heard.finish_reasons) == ("so far", ())
    assert heard.error is not None
    assert (heard.error.type, heard.error.code) == ("agent_error", "timeout")


@requirement("errors.mid-stream")
@in_process
async def test_one_of_two_streamed_choices_that_fails_ends_the_stream(connect: Connect) -> None:
    async def agent(context: RunContext) -> AsyncIterator[str]:
        yield "so far"
        if context.turn_id.endswith("-1"):
            raise RuntimeError
        await anyio.sleep_forever()

    async with connect(agent) as client:
        heard = await hear(await client.chat.completions.create(model="agent", messages=HELLO, stream=True, n=2))
    assert (heard.text, heard.finish_reasons) == ("so farso far", ())
    assert heard.error is not None


@requirement("errors.mid-stream")
async def test_the_sdks_stream_helper_raises_the_error_too(connect: Connect) -> None:
    async with connect(Says("so far", RuntimeError("x"))) as client:
        manager = client.chat.completions.stream(model="agent", messages=HELLO)
        async with manager as stream:
            with pytest.raises(openai.APIError) as caught:
                await stream.get_final_completion()
            assert stream.current_completion_snapshot.choices[0].message.content == "so far"
    assert (caught.value.type, caught.value.code) == ("agent_error", "agent_error")


@requirement("errors.mid-stream")
def test_a_blocking_client_is_told_the_same() -> None:
    heard: list[str | None] = []

    def read(stream: openai.Stream[Any]) -> None:
        for chunk in stream:
            heard.append(chunk.choices[0].delta.content)

    with sync_openai(Server(Says("so far", RuntimeError("x"))), max_retries=2) as client:
        stream = client.chat.completions.create(model="agent", messages=HELLO, stream=True)
        with pytest.raises(openai.APIError) as caught:
            read(stream)
    assert heard == ["", "so far"]
    assert caught.value.code == "agent_error"


@requirement("errors.mid-stream")
@in_process
async def test_a_completion_stream_breaks_off_the_same_way(connect: Connect) -> None:
    texts: list[str] = []

    async def read(stream: openai.AsyncStream[Any]) -> None:
        async for chunk in stream:
            texts.append(chunk.choices[0].text)

    async with connect(Says("so far", RuntimeError("x"))) as client:
        stream = await client.completions.create(model="agent", prompt="x", stream=True)
        with pytest.raises(openai.APIError) as caught:
            await read(stream)
    assert texts == ["so far"]
    assert (caught.value.type, caught.value.code) == ("agent_error", "agent_error")


# invalid events

NOT_EVENTS: list[Any] = [
    None,
    b"bytes",
    {"type": "text", "text": "Hi"},
    TextDelta,
    TextDelta(None),
    TextDelta(5),
    ReasoningDelta(b"x"),
    Citation("http://a/", "A", float("nan"), 2),
    MediaDelta("text", "image/png"),
    ToolCallStarted(None, "look"),
    ToolCallStarted("c", "look", "server"),
    ToolCallReady("c", "look", {"at": "sky"}),
    Paused((PendingCall("c", "look", {}),)),
    Progress("step", "1", None),
    UsageReported(1.5, 2),
    UsageReported(-1, 2),
    Finished("done"),
]


@requirement("errors.not-an-event")
@pytest.mark.parametrize("wrong", NOT_EVENTS, ids=repr)
@in_process
async def test_nothing_that_is_no_event_reaches_the_wire(wrong: Any, connect: Connect) -> None:
    async with connect(Says("so far", wrong)) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="agent", messages=HELLO)
        heard = await hear(await client.chat.completions.create(model="agent", messages=HELLO, stream=True))
    expected = "invalid_usage" if isinstance(wrong, UsageReported) else "invalid_event"
    assert (caught.value.status_code, caught.value.code) == (500, expected)
    assert (heard.text, heard.finish_reasons) == ("so far", ())
    assert heard.error is not None
    assert heard.error.code == expected


# failures of the model behind the agent


Upstream = Callable[[httpx2.Request], httpx2.Response]


def answers(status: int, error: dict[str, Any] | None = None, **headers: str) -> Upstream:
    """A model API that answers with an error; its text is secret."""
    body = {"type": "error", "error": {"message": SECRET, "type": "some_error", **(error or {})}}
    return lambda request: httpx2.Response(status, json=body, headers=headers)


def breaks(kind: type[httpx2.TransportError]) -> Upstream:
    """A model API that does not answer."""

    def handler(request: httpx2.Request) -> httpx2.Response:
        raise kind(SECRET, request=request)

    return handler


def agent_of(vendor: str, upstream: Upstream) -> Any:
    """An agent that calls a model through a vendor's real client."""
    inner = httpx2.AsyncClient(transport=httpx2.MockTransport(upstream))

    async def agent(prompt: str) -> str:
        if vendor == "openai":
            client = openai.AsyncOpenAI(api_key="upstream", http_client=inner, max_retries=0)
            await client.chat.completions.create(model="m", messages=HELLO)
        elif vendor == "anthropic":
            claude = anthropic.AsyncAnthropic(api_key="upstream", http_client=inner, max_retries=0)
            await claude.messages.create(model="m", messages=HELLO, max_tokens=1)
        else:
            (await inner.get("http://model/")).raise_for_status()
        return "not reached"

    return agent


TOO_LONG = {"message": f"prompt is too long: 200001 tokens > 200000 maximum {SECRET}"}


@requirement("errors.upstream")
@pytest.mark.parametrize("vendor", ["openai", "anthropic", "httpx2"])
@pytest.mark.parametrize(
    ("upstream", "status", "code", "retry_after"),
    [
        (answers(429, **{"retry-after": "7"}), 429, "rate_limit_exceeded", "7"),
        (answers(429), 429, "rate_limit_exceeded", "1"),
        (answers(429, **{"retry-after": "9999"}), 429, "rate_limit_exceeded", "1"),
        (answers(500), 503, "upstream_unavailable", "5"),
        (answers(503, **{"retry-after": "20"}), 503, "upstream_unavailable", "20"),
        (answers(529), 503, "upstream_unavailable", "5"),
        (answers(401), 502, "upstream_auth", None),
        (answers(403), 502, "upstream_auth", None),
        (answers(400), 500, "upstream_error", None),
        (answers(404), 500, "upstream_error", None),
        (breaks(httpx2.ConnectError), 503, "upstream_unreachable", "5"),
        (breaks(httpx2.ReadTimeout), 504, "upstream_timeout", None),
        (breaks(httpx2.ConnectTimeout), 504, "upstream_timeout", None),
        (breaks(httpx2.RemoteProtocolError), 503, "upstream_unreachable", "5"),
    ],
)
@in_process
async def test_failures_of_the_model_behind_the_agent_are_told_apart(
    vendor: str, upstream: Upstream, status: int, code: str, retry_after: str | None, connect: Connect
) -> None:
    async with connect(agent_of(vendor, upstream)) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(model="agent", messages=HELLO)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert caught.value.response.headers.get("retry-after") == retry_after
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert SECRET not in caught.value.response.text


@requirement("errors.upstream")
@pytest.mark.parametrize(
    ("vendor", "error"),
    [("openai", {"code": "context_length_exceeded"}), ("openai", TOO_LONG), ("anthropic", TOO_LONG)],
)
@in_process
async def test_a_conversation_too_long_for_the_model_is_the_clients_to_shorten(
    vendor: str, error: dict[str, Any], connect: Connect
) -> None:
    async with connect(agent_of(vendor, answers(400, error))) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="agent", messages=HELLO)
    assert caught.value.code == "context_length_exceeded"
    assert SECRET not in caught.value.response.text


@requirement("errors.upstream")
@in_process
async def test_a_timeout_of_the_agents_own_and_one_wrapped_in_groups_are_504(connect: Connect) -> None:
    grouped = ExceptionGroup("outer", [ExceptionGroup("inner", [TimeoutError(SECRET)])])
    async with connect({"own": Says(TimeoutError(SECRET)), "grouped": Says(grouped)}) as client:
        for model in ("own", "grouped"):
            with pytest.raises(openai.InternalServerError) as caught:
                await client.chat.completions.create(model=model, messages=HELLO)
            assert (caught.value.status_code, caught.value.code) == (504, "agent_timeout")
