"""Hooks see every request, whether or not an agent runs for it, and every WebSocket handshake."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator

import pytest

from openai_compat import ChatWebSocket, Hooks, RequestInfo, RequestOutcome, Server
from tests.api.chat_websocket.client import chat
from tests.requirements import requirement
from tests.support.exchanges import answer, request

pytestmark = pytest.mark.anyio

SAYS_HELLO = {"model": "agent", "messages": [{"role": "user", "content": "hello"}]}
request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id")


class Requests(Hooks):
    """Records requests and their outcomes."""

    def __init__(self) -> None:
        self.came: list[RequestInfo] = []
        self.ended: list[tuple[RequestInfo, RequestOutcome]] = []

    def request_started(self, request: RequestInfo) -> None:
        self.came.append(request)
        request_id.set(request.id)

    def request_ended(self, request: RequestInfo, outcome: RequestOutcome) -> None:
        self.ended.append((request, outcome))


class Breaks(Hooks):
    """Fails in every method."""

    def request_started(self, request: RequestInfo) -> None:
        raise ValueError("no")

    def request_ended(self, request: RequestInfo, outcome: RequestOutcome) -> None:
        raise SystemExit(3)


async def agent(prompt: str) -> AsyncIterator[str]:
    if prompt == "fail":
        raise ValueError("secret")
    yield request_id.get("nobody")


@requirement("hooks.requests")
@pytest.mark.parametrize(
    ("method", "path", "route", "status", "note", "started"),
    [
        ("POST", "/v1/chat/completions", "/v1/chat/completions", 200, "", True),
        ("GET", "/v1/responses/resp_1", "/v1/responses/{response_id}", 404, "response_not_found", False),
        ("GET", "/nowhere", None, 404, "unknown_url", False),
        ("PUT", "/v1/models", "/v1/models", 405, "method_not_supported", False),
        ("GET", "/healthz", "/healthz", 200, "", False),
    ],
)
async def test_each_request_is_told_of_with_its_route_and_its_end(
    method: str, path: str, route: str | None, status: int, note: str, started: bool
) -> None:
    hook = Requests()
    await answer(Server(agent, hooks=[hook]), request(path, SAYS_HELLO if method == "POST" else None, method=method))
    [(told, outcome)] = hook.ended
    assert hook.came == [told]
    assert (told.request.method, told.request.path, told.websocket) == (method, path, False)
    assert (outcome.route, outcome.status, outcome.note, outcome.agent_started) == (route, status, note, started)
    assert 0 <= outcome.seconds < 10


@requirement("hooks.requests")
async def test_the_outcome_names_who_has_asked_and_what_a_refused_one_was_told() -> None:
    hook = Requests()
    server = Server(agent, hooks=[hook], keys={"sk-ann": "ann"})
    await answer(server, request("/v1/chat/completions", SAYS_HELLO, (b"authorization", b"Bearer sk-ann")))
    await answer(server, request("/v1/chat/completions", SAYS_HELLO, (b"authorization", b"Bearer sk-bob")))
    assert [(outcome.principal, outcome.status, outcome.note) for _, outcome in hook.ended] == [
        ("ann", 200, ""),
        ("", 401, "invalid_api_key"),
    ]


@requirement("hooks.requests")
@pytest.mark.parametrize("stream", [False, True])
async def test_context_variables_of_a_request_are_its_agents(stream: bool) -> None:
    hook = Requests()
    said = await answer(Server(agent, hooks=[hook]), request("/v1/chat/completions", {**SAYS_HELLO, "stream": stream}))
    assert hook.came[0].id in "".join([piece.data.decode() for piece in said.bodies])


@requirement("hooks.requests")
async def test_an_error_late_in_a_stream_is_the_requests_note() -> None:
    hook = Requests()
    body = {**SAYS_HELLO, "messages": [{"role": "user", "content": "fail"}], "stream": True}
    await answer(Server(agent, hooks=[hook]), request("/v1/chat/completions", body))
    [(_, outcome)] = hook.ended
    assert (outcome.note, outcome.agent_started) == ("agent_error", True)


@requirement("hooks.requests")
async def test_a_websockets_handshake_ends_when_it_is_accepted_and_its_turns_are_no_requests() -> None:
    hook = Requests()
    server = Server(agent, hooks=[hook], chat_websocket=ChatWebSocket())
    async with chat(server) as client:
        [(told, outcome)] = hook.ended
        assert (told.websocket, outcome.route, outcome.status) == (True, "/chat", 101)
        await client.say("hello")
        await client.until()
    assert len(hook.ended) == len(hook.came) == 1


@requirement("hooks.isolated")
async def test_a_hook_that_fails_at_a_request_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    hook = Requests()
    said = await answer(Server(agent, hooks=[Breaks(), hook]), request("/v1/chat/completions", SAYS_HELLO))
    assert said.status == 200
    assert len(hook.ended) == 1
    assert [record.message.partition(": ")[2] for record in caplog.records if record.levelname == "ERROR"] == [
        "Breaks.request_started failed",
        "Breaks.request_ended failed",
    ]
