"""The targets of tests: a `Server`, or any ASGI application, both called without a socket."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, cast, runtime_checkable

import anyio

from ..agents.describe import describe
from ..http import ClientDisconnected, ClientTooSlow, HttpRequest, ResponseBody, ResponseStart, Send
from ..server import Server


@runtime_checkable
class Target(Protocol):
    """Anything that answers HTTP requests."""

    async def answer(self, request: HttpRequest, send: Send, left: anyio.Event) -> None:
        """Answer `request`; `left` is set when the client disconnects, and the call must then return soon."""
        ...


def is_asgi(thing: object) -> bool:
    """True for an ASGI application: a callable with `scope`, `receive` and `send`."""
    if not callable(thing):
        return False
    try:
        names = list(inspect.signature(thing).parameters)
    except (TypeError, ValueError):
        return False
    # By name: an agent may also have three parameters.
    return names == ["scope", "receive", "send"]


def as_target(thing: object) -> Target:
    """A target made of a Server or an ASGI application. Raises TypeError for anything else."""
    if isinstance(thing, Server):
        return ServerTarget(thing)
    if is_asgi(thing):
        return AsgiTarget(cast("Callable[..., Any]", thing))
    raise TypeError(f"only a Server or an ASGI application can be asked, not {describe(thing)}")


class ServerTarget:
    """A `Server`, called without a transport: when the client disconnects, the call is cancelled."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def answer(self, request: HttpRequest, send: Send, left: anyio.Event) -> None:
        """Pass the request on; the call is cancelled when the client disconnects, as adapters do."""
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                await left.wait()
                group.cancel_scope.cancel()

            group.start_soon(watch)
            with suppress(ClientDisconnected, ClientTooSlow):
                await self._server.handle(request, send)
            group.cancel_scope.cancel()


class AsgiTarget:
    """An ASGI application: `http.disconnect` reports a client that has left; the call is never cancelled."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self._app = app

    async def answer(self, request: HttpRequest, send: Send, left: anyio.Event) -> None:
        """Call the application with the whole request, and forward its messages."""
        unread = [b"".join([piece async for piece in request.body])]

        async def receive() -> dict[str, Any]:
            # The whole body at once: tests here do not depend on how servers split it.
            if unread:
                return {"type": "http.request", "body": unread.pop(), "more_body": False}
            await left.wait()
            return {"type": "http.disconnect"}

        async def forward(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                await send(ResponseStart(message["status"], list(message.get("headers", ()))))
            elif message["type"] == "http.response.body":
                await send(ResponseBody(message.get("body", b""), message.get("more_body", False)))

        await self._app(_scope(request), receive, forward)


def _scope(request: HttpRequest) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.path.encode(),
        "root_path": "",
        "query_string": request.query.encode("latin-1"),
        "headers": list(request.headers),
        "client": ("127.0.0.1", 50000),
        "server": ("localhost", 80),
    }
