"""The Starlette adapter: as a whole application, and below a prefix of another one."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import openai
import pytest
from fastapi import FastAPI
from hypercorn.middleware import DispatcherMiddleware
from litestar import Litestar, asgi, get
from quart import Quart
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from openai_compat import Admission, Limits, Server
from openai_compat_adapters.starlette import create_app, endpoint
from tests.requirements import requirement
from tests.transports import AsgiTransport, asgi_socket
from tests.trust.probe import CHAT, Endless, ask, error_of, eventually, soon
from tests.trust.wire import RawClient

pytestmark = pytest.mark.anyio
HI: Any = [{"role": "user", "content": "Bob"}]


async def greeter(prompt: str) -> AsyncIterator[str]:
    yield "Hello, "
    yield prompt


async def own_page(request: Request) -> Response:
    return PlainTextResponse("my own page")


def in_starlette(server: Server) -> ASGIApp:
    return Starlette(routes=[Route("/own", own_page), Mount("/ai", endpoint(server))])


def in_starlette_twice(server: Server) -> ASGIApp:
    inner = Starlette(routes=[Route("/own", own_page), Mount("/ai", endpoint(server))])
    return Starlette(routes=[Route("/own", own_page), Mount("/inner", inner)])


def in_fastapi(server: Server) -> ASGIApp:
    app = FastAPI()
    app.add_route("/own", own_page)
    app.mount("/ai", endpoint(server))
    return app


def in_fastapi_as_an_app(server: Server) -> ASGIApp:
    app = FastAPI()
    app.add_route("/own", own_page)
    app.mount("/ai", create_app(server))
    return app


def in_fastapi_that_knows_its_proxy(server: Server) -> ASGIApp:
    """Like `FastAPI(root_path="/proxied")`, and servers that do not prepend their root path to the path."""
    inner = in_fastapi(server)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await inner({**scope, "root_path": "/proxied"}, receive, send)

    return app


def in_litestar(server: Server) -> ASGIApp:
    @get("/own", media_type="text/plain", sync_to_thread=False)
    def own() -> str:
        return "my own page"

    app: Any = Litestar([own, asgi("/ai", is_mount=True, copy_scope=True)(endpoint(server))])
    return app


def quart() -> ASGIApp:
    app: Any = Quart(__name__)

    @app.get("/own")
    async def own() -> str:
        return "my own page"

    return app


def in_hypercorns_dispatcher(server: Server) -> ASGIApp:
    app: Any = DispatcherMiddleware({"/ai": endpoint(server), "": quart()})
    return app


def in_a_dispatcher_that_takes_the_prefix_off(server: Server) -> ASGIApp:
    """Like Hypercorn's until 0.17, Mangum and others."""
    parent, agents = quart(), endpoint(server)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        path, root = scope.get("path", ""), scope.get("root_path", "")
        if path.startswith(f"{root}/ai/"):
            below = {**scope, "root_path": f"{root}/ai", "path": path.removeprefix(f"{root}/ai")}
            await agents(below, receive, send)
        else:
            await parent(scope, receive, send)

    return app


MOUNTS: list[tuple[Callable[[Server], ASGIApp], str]] = [
    (in_starlette, "/ai"),
    (in_starlette_twice, "/inner/ai"),
    (in_fastapi, "/ai"),
    (in_fastapi_as_an_app, "/ai"),
    (in_fastapi_that_knows_its_proxy, "/ai"),
    (in_litestar, "/ai"),
    (in_hypercorns_dispatcher, "/ai"),
    (in_a_dispatcher_that_takes_the_prefix_off, "/ai"),
]
ASYNCIO_ONLY = (in_hypercorns_dispatcher, in_a_dispatcher_that_takes_the_prefix_off)
NO_ROOT_PATH = (in_fastapi_that_knows_its_proxy, in_litestar, in_hypercorns_dispatcher)
"""These frameworks match routes against the whole path, whatever the root path is."""


def http(app: ASGIApp, path: str = "") -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=AsgiTransport(app), base_url=f"http://localhost{path}")


@pytest.mark.parametrize("root_path", ["", "/proxied"])
@pytest.mark.parametrize(("mount", "prefix"), MOUNTS, ids=lambda value: getattr(value, "__name__", value))
def test_the_sdk_reaches_an_agent_below_a_prefix(
    mount: Callable[[Server], ASGIApp], prefix: str, root_path: str
) -> None:
    """Over a real socket; also with a root path that a proxy in front of the application has removed."""
    if root_path and mount in NO_ROOT_PATH:
        return
    server = Server({"greeter": greeter}, keys="sk-right")
    with (
        asgi_socket(mount(server), root_path) as url,
        openai.OpenAI(base_url=f"{url}{prefix}/v1", api_key="sk-right", max_retries=0) as client,
    ):
        assert [model.id for model in client.models.list()] == ["greeter"]
        stream = client.chat.completions.create(model="greeter", messages=HI, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" for chunk in stream]) == "Hello, Bob"
        assert client.models.retrieve("greeter").id == "greeter"
        assert httpx2.get(f"{url}/own").text == "my own page"
        [described] = httpx2.get(f"{url}{prefix}/openapi.json").json()["servers"]
        assert described["url"].endswith(prefix)
        assert root_path in described["url"]


@pytest.mark.parametrize(("mount", "prefix"), MOUNTS, ids=lambda value: getattr(value, "__name__", value))
async def test_below_the_prefix_all_answers_are_ours_and_beside_it_none(
    mount: Callable[[Server], ASGIApp], prefix: str, anyio_backend_name: str
) -> None:
    if anyio_backend_name == "trio" and mount in ASYNCIO_ONLY:
        return
    async with http(mount(Server({"greeter": greeter}))) as client:
        unknown = await client.get(f"{prefix}/unknown")
        wrong_method = await client.put(f"{prefix}{CHAT}")
        assert (await client.get(f"{prefix}/healthz")).json() == {"status": "ok"}
        assert (await client.get("/own")).text == "my own page"
        assert (await client.get("/v1/models")).text != unknown.text
        assert (await client.get(f"{prefix}x/v1/models")).status_code == 404
    assert error_of(unknown) == (404, "invalid_request_error", "unknown_url", None)
    assert error_of(wrong_method) == (405, "invalid_request_error", "method_not_supported", None)


async def test_model_names_with_slashes_and_spaces_are_found_below_a_prefix() -> None:
    async with http(in_starlette(Server({"my org/the agent": greeter}))) as client:
        for path in ("my org/the agent", "my%20org/the%20agent", "my%20org%2Fthe%20agent"):
            assert (await client.get(f"/ai/v1/models/{path}")).json()["id"] == "my org/the agent"


def test_a_bare_endpoint_is_an_application_too() -> None:
    with asgi_socket(endpoint(Server(greeter))) as url:
        assert httpx2.get(f"{url}/healthz").status_code == 200


# lifespan


def test_the_applications_lifespan_ends_the_servers() -> None:
    server = Server(greeter)
    with asgi_socket(create_app(server)) as url:
        assert httpx2.get(f"{url}/readyz").status_code == 200
        assert not server.services.live.slots.closed
    assert server.services.live.slots.closed


@pytest.mark.parametrize("parent", [Starlette, FastAPI])
def test_a_parents_lifespan_runs_the_servers_within_its_own(parent: Any) -> None:
    """208: parents do not run the lifespans of mounted applications, and we install no signal handlers of our own"""
    server = Server(greeter)
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncGenerator[None]:
        async with server.lifespan():
            seen.append("open" if not server.services.live.slots.closed else "closed")
            yield
        seen.append("open" if not server.services.live.slots.closed else "closed")

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    app = parent(lifespan=lifespan)
    app.mount("/ai", endpoint(server))
    with asgi_socket(app) as url:
        assert httpx2.post(f"{url}/ai{CHAT}", json=ask()).status_code == 200
    assert seen == ["open", "closed"]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


async def test_draining_refuses_new_turns_and_waits_for_the_running_ones() -> None:
    go, running = anyio.Event(), anyio.Event()

    async def agent(prompt: str) -> str:
        running.set()
        await go.wait()
        return "finished"

    server = Server(agent)
    answers: list[httpx2.Response] = []
    async with http(create_app(server)) as client, anyio.create_task_group() as group:

        async def turn() -> None:
            answers.append(await client.post(CHAT, json=ask()))

        async def drain() -> None:
            await server.drain(20)
            assert server.services.live.slots.used == 0

        group.start_soon(turn)
        await running.wait()
        group.start_soon(drain)
        await soon(lambda: server.services.live.slots.closed)
        refused = await client.post(CHAT, json=ask())
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200
        go.set()
    assert error_of(refused) == (503, "server_error", "shutting_down", None)
    assert refused.headers["retry-after"] == "5"
    assert answers[0].json()["choices"][0]["message"]["content"] == "finished"


@requirement("paths.draining")
async def test_a_host_says_that_it_will_stop_and_what_runs_goes_on() -> None:
    go = anyio.Event()

    async def agent(prompt: str) -> AsyncIterator[str]:
        yield "one "
        await go.wait()
        yield "two"

    server = Server(agent, limits=Limits(slots=1), admission=Admission(queue=60))

    async def before_stop(request: Request) -> Response:
        server.draining()
        server.draining()
        return PlainTextResponse("from now on")

    routes = [Route("/before-stop", before_stop), Mount("/ai", endpoint(server))]
    parent = Starlette(routes=routes, lifespan=lambda app: server.lifespan())
    queued: list[httpx2.Response] = []
    async with httpx2.AsyncClient(transport=AsgiTransport(parent), base_url="http://localhost") as client:

        async def queue() -> None:
            queued.append(await client.post(f"/ai{CHAT}", json=ask()))

        with anyio.fail_after(20):
            async with parent.router.lifespan_context(parent), anyio.create_task_group() as group:
                async with client.stream("POST", f"/ai{CHAT}", json=ask(stream=True)) as answer:
                    lines = answer.aiter_lines()
                    received = [await anext(lines) for _ in range(3)]
                    group.start_soon(queue)
                    await soon(lambda: server.services.live.slots.waiting)
                    assert (await client.get("/ai/readyz")).status_code == 200
                    await client.get("/before-stop")
                    ready = await client.get("/ai/readyz")
                    refused = await client.post(f"/ai{CHAT}", json=ask())
                    await soon(lambda: queued)
                    go.set()
                    received += [line async for line in lines]
    assert error_of(ready)[::2] == error_of(refused)[::2] == error_of(queued[0])[::2] == (503, "shutting_down")
    assert ready.headers["retry-after"] == "5"
    assert "".join(received).endswith("data: [DONE]")
    assert '"content":"two"' in "".join(received)


# the protocol


Message = dict[str, Any]


async def exchange(
    app: ASGIApp, *incoming: Message, method: str = "POST", path: str = CHAT, query: bytes = b"", headers: Any = ()
) -> list[Message]:
    """Return what the application sends for these messages. No message follows the last one."""
    messages, sent = list(incoming), list[Message]()

    async def receive() -> Message:
        if not messages:
            await anyio.sleep_forever()
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "root_path": "",
        "query_string": query,
        "headers": [(b"host", b"localhost"), *headers],
    }
    with anyio.fail_after(10):
        await app(scope, receive, send)
    return sent


def upload(*pieces: bytes) -> list[Message]:
    last = len(pieces) - 1
    return [{"type": "http.request", "body": piece, "more_body": i < last} for i, piece in enumerate(pieces)]


BODY = json.dumps(ask()).encode()
STREAM = json.dumps(ask(stream=True)).encode()


@pytest.mark.parametrize(
    ("incoming", "method", "path"),
    [
        (upload(BODY), "POST", CHAT),
        (upload(STREAM), "POST", CHAT),
        (upload(BODY[:9], BODY[9:], b""), "POST", CHAT),
        ([{"type": "http.request"}], "POST", CHAT),
        ([{"type": "http.request"}], "GET", "/v1/models"),
        ([], "GET", "/v1/models"),
        ([], "HEAD", "/v1/models"),
        ([], "DELETE", CHAT),
        ([], "POST", "/unknown"),
    ],
)
async def test_messages_come_in_the_order_that_asgi_wants(incoming: list[Message], method: str, path: str) -> None:
    sent = await exchange(endpoint(Server(greeter)), *incoming, method=method, path=path)
    start, *bodies = sent
    assert start["type"] == "http.response.start"
    assert type(start["status"]) is int
    for name, value in start["headers"]:
        assert type(name) is type(value) is bytes
        assert name == name.lower()
    assert {body["type"] for body in bodies} == {"http.response.body"}
    assert {type(body["body"]) for body in bodies} == {bytes}
    assert [body["more_body"] for body in bodies] == [True] * (len(bodies) - 1) + [False]
    length = dict(start["headers"]).get(b"content-length")
    if length is not None and method != "HEAD":
        assert int(length) == len(bodies[0]["body"])
    if method == "HEAD":
        assert int(length or 0) > 0
        assert bodies[0]["body"] == b""


@pytest.mark.parametrize("pieces", [(), (BODY[:20],), (BODY[:20], BODY[20:40])])
async def test_a_client_that_leaves_during_the_upload_gets_nothing_and_starts_nothing(
    pieces: tuple[bytes, ...],
) -> None:
    """140"""
    runs = 0

    async def agent(prompt: str) -> str:
        nonlocal runs
        runs += 1
        return "never"

    unfinished = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    assert await exchange(endpoint(Server(agent)), *unfinished, {"type": "http.disconnect"}) == []
    assert runs == 0


async def test_a_client_that_leaves_during_the_answer_is_sent_no_more() -> None:
    agent = Endless("begun")
    server = Server(agent)
    sent = await exchange(endpoint(server), *upload(STREAM), {"type": "http.disconnect"})
    assert [message for message in sent if message.get("more_body") is False] == []
    assert agent.stopped.is_set() or agent.runs == 0
    assert server.services.live.slots.used == 0


async def test_a_client_that_leaves_while_it_follows_a_response_is_noticed_although_it_sent_no_body() -> None:
    agent = Endless("begun")
    server = Server(agent)
    asked = json.dumps({"model": "agent", "input": "hi", "background": True}).encode()
    answer = await exchange(endpoint(server), *upload(asked), path="/v1/responses")
    path = f"/v1/responses/{json.loads(answer[1]['body'])['id']}"
    gone = {"type": "http.disconnect"}
    followed = await exchange(endpoint(server), *upload(b""), gone, path=path, method="GET", query=b"stream=true")
    assert followed[0]["status"] == 200
    assert [message for message in followed if message.get("more_body") is False] == []
    await server.drain(0)


async def test_a_send_that_fails_means_that_the_client_has_left(caplog: pytest.LogCaptureFixture) -> None:
    """ASGI 2.4 lets servers report a disconnect by an OSError, which is not logged as an error."""
    caplog.set_level(logging.INFO, logger="openai_compat")
    agent = Endless("begun")
    server = Server(agent)
    messages = upload(STREAM)

    async def receive() -> Message:
        if not messages:
            await anyio.sleep_forever()
        return messages.pop(0)

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise OSError("the client has left")

    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": [(b"host", b"localhost")]}
    with anyio.fail_after(10):
        await endpoint(server)(scope, receive, send)
    assert agent.stopped.is_set()
    await soon(lambda: server.services.live.slots.used == 0)
    assert {record.levelname for record in caplog.records if record.name == "openai_compat"} == {"INFO"}
    assert "client left" in caplog.text


# parents that wrap the mounted application


class Cycle:
    """Like uvicorn's: `send` is a method of the object with the flow control. Fails after `most` pieces."""

    write_paused = False

    def __init__(self, most: int) -> None:
        self.flow = self
        self.sent = 0
        self._most = most

    async def send(self, message: Any) -> None:
        self.sent += 1
        if self.sent > self._most:
            raise OSError("the client has left")


@pytest.mark.parametrize("most", [1, 2, 3, 10])
async def test_a_send_that_fails_in_the_loops_own_turn_ends_the_request(
    most: int, caplog: pytest.LogCaptureFixture
) -> None:
    cycle, messages, stopped = Cycle(most), upload(STREAM), anyio.Event()

    async def talks(prompt: str) -> AsyncIterator[str]:
        try:
            while True:
                await anyio.lowlevel.checkpoint()
                yield "token "
        finally:
            stopped.set()

    server = Server(talks)

    async def receive() -> Message:
        if not messages:
            await anyio.sleep_forever()
        return messages.pop(0)

    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": [(b"host", b"localhost")]}
    with anyio.fail_after(10):
        await endpoint(server)(scope, receive, cycle.send)
    assert cycle.sent == most + 1
    assert stopped.is_set()
    await soon(lambda: server.services.live.slots.used == 0)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-wrapped"] = "yes"
        return response


def test_an_agent_is_stopped_behind_a_middleware_that_wraps_receive_and_send() -> None:
    """BaseHTTPMiddleware hid the client's disconnect from the wrapped application in several frameworks."""
    agent = Endless("begun")
    server = Server({"agent": agent, "greeter": greeter})
    app = Starlette(routes=[Mount("/ai", endpoint(server))], middleware=[Middleware(Passing)])
    with asgi_socket(app) as url:
        answer = httpx2.post(f"{url}/ai{CHAT}", json=ask(model="greeter", stream=True))
        assert answer.headers["x-wrapped"] == "yes"
        assert "data: [DONE]" in answer.text
        for stream in (True, False):
            agent.stopped.clear()
            agent.waits.clear()
            with RawClient(url) as client:
                body = json.dumps(ask(stream=stream)).encode()
                client.head("Content-Type: application/json", f"Content-Length: {len(body)}", path=f"/ai{CHAT}")
                client.socket.sendall(body)
                assert agent.waits.wait(10)
            assert agent.stopped.wait(3)
        eventually(lambda: server.services.live.slots.used == 0)


def test_an_application_made_on_one_loop_serves_on_another() -> None:
    """The server is bound to no loop: it may be made anywhere, and served again after its loop has ended."""
    server = Server({"greeter": greeter, "thread": lambda prompt: "from a thread"})

    async def ask_once(model: str) -> str:
        async with http(create_app(server)) as client:
            answer = await client.post(CHAT, json=ask(model=model))
        return str(answer.json()["choices"][0]["message"]["content"])

    results: list[str] = []
    for _ in range(2):
        thread = threading.Thread(
            target=lambda: results.extend([asyncio.run(ask_once(model)) for model in ("greeter", "thread")])
        )
        thread.start()
        thread.join(10)
    assert results == ["Hello, hi", "from a thread"] * 2


async def test_middleware_that_is_added_to_the_app_sees_its_requests() -> None:
    app = create_app(Server(greeter))

    class Marking:
        def __init__(self, app: ASGIApp) -> None:
            self._app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def marked(message: Any) -> None:
                if message["type"] == "http.response.start":
                    message = {**message, "headers": [*message["headers"], (b"x-marked", b"yes")]}
                await send(message)

            await self._app(scope, receive, marked)

    app.add_middleware(Marking)
    async with http(app) as client:
        assert (await client.get("/healthz")).headers["x-marked"] == "yes"
