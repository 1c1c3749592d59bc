"""WebSockets in the adapters: ASGI's messages, limited servers, WSGI, and the in-process one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from openai_compat import Server
from openai_compat_adapters.starlette import create_app, endpoint
from openai_compat_adapters.transport import AsyncTransport
from openai_compat_adapters.websocket import Closed, connect
from tests.loops import anyio_backend as anyio_backend
from tests.transports import wsgi_socket

pytestmark = pytest.mark.anyio
CREATE = json.dumps({"type": "response.create", "model": "agent", "input": "hi"})


def agent(prompt: str) -> str:
    return f"heard {prompt}"


class Asgi:
    """An ASGI server's side of one WebSocket, whose client sends `frames` and disconnects."""

    def __init__(self, *frames: dict[str, Any], path: str = "/v1/responses", **scope: Any) -> None:
        self.scope = {"type": "websocket", "path": path, "headers": [(b"host", b"localhost")], "root_path": "", **scope}
        self.sent: list[dict[str, Any]] = []
        self.answered = anyio.Event()
        self._incoming = [{"type": "websocket.connect"}, *frames]

    async def receive(self) -> dict[str, Any]:
        if self._incoming:
            return self._incoming.pop(0)
        with anyio.fail_after(10):
            await self.answered.wait()
        return {"type": "websocket.disconnect", "code": 1000}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        last = json.loads(message["text"])["type"] if message["type"] == "websocket.send" else "end"
        if last in ("end", "error", "response.completed") and message["type"] != "websocket.accept":
            self.answered.set()

    @property
    def events(self) -> list[str]:
        return [json.loads(message["text"])["type"] for message in self.sent if message["type"] == "websocket.send"]


@pytest.mark.parametrize("make", [endpoint, create_app])
async def test_frames_are_messages(make: Callable[[Server], Any]) -> None:
    for given in ({"text": CREATE}, {"text": CREATE, "bytes": None}):
        asgi = Asgi({"type": "websocket.receive", **given})
        await make(Server(agent))(asgi.scope, asgi.receive, asgi.send)
        accept, *_ = asgi.sent
        assert (accept["type"], accept["subprotocol"]) == ("websocket.accept", None)
        assert accept["headers"][0][0] == b"x-request-id"
        assert asgi.events[0] == "response.created"
        assert asgi.events[-1] == "response.completed"


async def test_bytes_reach_the_endpoint_as_bytes() -> None:
    asgi = Asgi({"type": "websocket.receive", "bytes": b"{}", "text": None})
    await endpoint(Server(agent))(asgi.scope, asgi.receive, asgi.send)
    assert json.loads(asgi.sent[1]["text"])["error"]["code"] == "invalid_frame"


async def test_below_a_prefix_the_path_is_what_follows_it() -> None:
    server = Server(agent)
    asgi = Asgi({"type": "websocket.receive", "text": CREATE}, path="/ai/v1/responses")
    await Starlette(routes=[Mount("/ai", endpoint(server))])(asgi.scope, asgi.receive, asgi.send)
    assert asgi.events[-1] == "response.completed"


async def test_a_refusal_is_an_answer_where_the_server_can_send_one_and_a_close_elsewhere() -> None:
    asgi = Asgi(path="/nothing", extensions={"websocket.http.response": {}})
    await endpoint(Server(agent))(asgi.scope, asgi.receive, asgi.send)
    start, body = asgi.sent
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 404)
    assert json.loads(body["body"])["error"]["code"] == "unknown_url"
    for extensions in ({}, {"extensions": None}, {"extensions": {"tls": {}}}):
        asgi = Asgi(path="/nothing", **extensions)
        await endpoint(Server(agent))(asgi.scope, asgi.receive, asgi.send)
        assert asgi.sent == [{"type": "websocket.close", "code": 1008, "reason": ""}]


@pytest.mark.parametrize("failure", [OSError("gone"), RuntimeError("closed already")])
@pytest.mark.parametrize("first", [True, False])
async def test_a_server_that_cannot_send_any_more_has_lost_its_client(
    failure: Exception, first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(agent)
    asgi = Asgi({"type": "websocket.receive", "text": CREATE})

    async def send(message: Any) -> None:
        if first or message["type"] != "websocket.accept":
            raise failure

    with anyio.fail_after(10):
        await endpoint(server)(asgi.scope, asgi.receive, send)
    assert server.services.live.slots.used == 0
    assert "Traceback" not in caplog.text


async def test_a_client_that_was_gone_before_it_came_is_no_connection() -> None:
    asgi = Asgi()

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.disconnect", "code": 1006}

    await endpoint(Server(agent))(asgi.scope, receive, asgi.send)
    assert asgi.sent == []


async def test_servers_that_speak_no_websocket_say_so() -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "WebSocket", "Sec-WebSocket-Version": "13"}
    server = Server(agent)
    async with httpx2.AsyncClient(transport=AsyncTransport(server), base_url="http://localhost") as client:
        assert (await client.get("/v1/responses", headers=headers)).headers["upgrade"] == "websocket"
    with wsgi_socket(server) as url:  # WSGI applications may not send hop-by-hop headers
        async with httpx2.AsyncClient(base_url=url) as client:
            answer = await client.get("/v1/responses", headers=headers)
            assert answer.status_code == 426
            assert answer.json()["error"]["code"] == "websocket_not_supported"
            assert (await client.get("/v1/responses")).status_code == 405
            assert (await client.get("/v1/models", headers={"Upgrade": "h2c"})).status_code == 200


async def test_without_a_socket_both_sides_can_leave() -> None:
    ended = anyio.Event()

    async def waits(prompt: str) -> AsyncIterator[str]:
        try:
            yield "began"
            await anyio.sleep_forever()
        finally:
            ended.set()

    server = Server(waits)
    async with connect(server) as websocket:
        await websocket.send(CREATE)
        assert json.loads(await websocket.receive())["type"] == "response.created"
        await websocket.close()
        assert ended.is_set()
        with pytest.raises(Closed):
            await websocket.receive()
        with pytest.raises(Closed):
            await websocket.send(CREATE)
    async with connect(server) as websocket:
        await server.drain(0)
        with anyio.fail_after(10), pytest.raises(Closed) as closed:
            await websocket.receive()
        assert (closed.value.code, closed.value.reason) == (1012, "shutting_down")
        with pytest.raises(Closed):
            await websocket.send(CREATE)
