"""Transports that reach a server, as httpx2 clients: the same tests run over each of them."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from socketserver import ThreadingMixIn
from typing import Any, Literal, TypeAlias
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import anyio
import httpx2
import uvicorn
from starlette.types import ASGIApp

from openai_compat import Server
from openai_compat.aio.background import spawn
from openai_compat_adapters.starlette import create_app
from openai_compat_adapters.transport import AsyncTransport
from openai_compat_adapters.wsgi import create_wsgi_app

Loop: TypeAlias = Literal["auto", "asyncio", "uvloop"]

TRANSPORTS = ("in-process", "asgi", "wsgi", "socket")


@asynccontextmanager
async def reach(server: Server, transport: str) -> AsyncIterator[httpx2.AsyncClient]:
    """An HTTP client for `server` over one of TRANSPORTS; its base URL has no /v1."""
    if transport == "in-process":
        async with httpx2.AsyncClient(transport=AsyncTransport(server), base_url="http://localhost") as client:
            yield client
    elif transport == "asgi":
        async with httpx2.AsyncClient(
            transport=AsgiTransport(create_app(server)), base_url="http://localhost"
        ) as client:
            yield client
    else:
        over = uvicorn_socket if transport == "socket" else wsgi_socket
        with over(server) as url:
            async with httpx2.AsyncClient(base_url=url, timeout=20) as client:
                yield client


def listen() -> socket.socket:
    """A listening socket on a free port. asyncio sets TCP_NODELAY only if the socket is created with an explicit protocol."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(512)
    return listener


LOOPS: tuple[Loop, ...] = ("asyncio", "uvloop")


def uvicorn_socket(server: Server, loop: Loop = "auto") -> AbstractContextManager[str]:
    """The server behind uvicorn on a free port; yields its URL. uvicorn picks uvloop on its own if it is installed."""
    return asgi_socket(create_app(server), loop=loop)


@contextmanager
def asgi_socket(app: ASGIApp, root_path: str = "", loop: Loop = "auto") -> Iterator[str]:
    """An ASGI application behind uvicorn on a free port; yields its URL."""
    config = uvicorn.Config(
        app, http="h11", log_config=None, timeout_graceful_shutdown=3, root_path=root_path, loop=loop
    )
    runner = uvicorn.Server(config)
    listener = listen()
    thread = threading.Thread(target=runner.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        runner.should_exit = True
        thread.join(10)
        listener.close()
        assert not thread.is_alive()


class _ThreadedServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def wsgi_socket(server: Server) -> Iterator[str]:
    """The server behind the standard library's WSGI server, one thread per request, on a free port; yields its URL."""
    runner = make_server("127.0.0.1", 0, create_wsgi_app(server), _ThreadedServer, _QuietHandler)
    thread = threading.Thread(target=runner.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{runner.server_port}"
    finally:
        runner.shutdown()
        thread.join(10)
        runner.server_close()
        assert not thread.is_alive()


class AsgiTransport(httpx2.AsyncBaseTransport):
    """Calls an ASGI application directly and streams live (httpx2's own transport holds the answer back until its end)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = _AsgiBody(self._app, request, await request.aread())
        start = await body.received.receive()
        assert start["type"] == "http.response.start"
        return httpx2.Response(start["status"], headers=start["headers"], stream=body, request=request)


class _AsgiBody(httpx2.AsyncByteStream):
    def __init__(self, app: ASGIApp, request: httpx2.Request, content: bytes) -> None:
        self._app = app
        self._request = request
        self._incoming: list[dict[str, Any]] = [{"type": "http.request", "body": content, "more_body": False}]
        self._left = anyio.Event()
        self._over = anyio.Event()
        self._sent, self.received = anyio.create_memory_object_stream[Any](0)
        spawn(self._run, "asgi app", self._over.set)

    async def _run(self) -> None:
        path, _, query = self._request.url.raw_path.partition(b"?")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self._request.method,
            "path": self._request.url.path,
            "raw_path": path,
            "root_path": "",
            "scheme": "http",
            "query_string": query,
            "headers": [(name.lower(), value) for name, value in self._request.headers.raw],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
        }
        async with self._sent:
            await self._app(scope, self._asgi_receive, self._asgi_send)

    async def _asgi_receive(self) -> Any:
        if self._incoming:
            return self._incoming.pop()
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _asgi_send(self, message: Any) -> None:
        if not self._left.is_set():
            with suppress(anyio.BrokenResourceError):  # after a disconnect, which ASGI does not call a failure
                await self._sent.send(message)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for message in self.received:
            yield message.get("body", b"")
            if not message.get("more_body"):
                return

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            self._left.set()
            self.received.close()
            await self._over.wait()
