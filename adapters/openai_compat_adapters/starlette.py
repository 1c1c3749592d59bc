"""The server as an ASGI application.

    app = create_app(server)                         a whole app: uvicorn hello:app
    app.mount("/ai", endpoint(server))               below a prefix of an app you have

Requests are handled in plain ASGI; Starlette provides the app to mount into, and the lifespan.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from openai_compat import Server
from openai_compat.http import ClientDisconnected, ClientTooSlow, HttpRequest, ResponseBody, ResponseStart
from openai_compat.package import needs
from openai_compat.policies.authenticate import OpenAccess

with needs(__name__):
    from starlette.applications import Starlette
    from starlette.routing import Router
    from starlette.types import ASGIApp, Message, Receive, Scope
    from starlette.types import Send as AsgiSend

    from ._asgi_channel import AsgiChannel
    from ._mount_point import split_path

__all__ = ("create_app", "endpoint")


def create_app(server: Server) -> Starlette:
    """Make a Starlette application that serves nothing else, and drains the server when it ends."""
    return _Application(server)


@asynccontextmanager
async def _lifespan(server: Server) -> AsyncGenerator[None]:
    async with server.lifespan():
        # All objects loaded by now stay. Scanning them again and again takes the collector milliseconds at a time: a third
        # of the time of a request with a long history.
        gc.collect()
        gc.freeze()
        yield


class _Application(Starlette):
    """Starlette without its error middlewares, unless others are added: the server answers every error itself."""

    def __init__(self, server: Server) -> None:
        super().__init__(lifespan=lambda app: _lifespan(server))
        # Without routes, this is where every request goes.
        self.router.default = self._endpoint = _make_application(server)

    async def __call__(self, scope: Scope, receive: Receive, send: AsgiSend) -> None:
        """Serve one connection, directly if nothing was added to the application."""
        added = self.user_middleware or self.exception_handlers or self.router.routes
        if added or scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
        else:
            await self._endpoint(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        plain = not self.user_middleware and not self.exception_handlers
        return self.router if plain else super().build_middleware_stack()


def endpoint(server: Server) -> ASGIApp:
    """Make a bare ASGI application of the server, to mount anywhere.

    Most parents do not run the lifespan of a mounted application: enter `server.lifespan()` in your own. A log line says
    at once if all users of the application will be one caller here.
    """
    if isinstance(server.auth, OpenAccess):
        server.auth.log_mounted()
    return _make_application(server)


def _make_application(server: Server) -> ASGIApp:
    lifespan = Router(lifespan=lambda app: server.lifespan()).lifespan

    async def application(scope: Scope, receive: Receive, send: AsgiSend) -> None:
        if scope["type"] == "websocket":
            if (await receive())["type"] == "websocket.connect":
                # ASGI servers cut a connection that the application has not closed when it returns.
                with suppress(ClientTooSlow):
                    await server.connect(_request(scope, _no_body()), AsgiChannel(scope, receive, send))
        elif scope["type"] == "http":
            call = _AsgiCall(receive, send)
            # ASGI cannot cut a connection: servers do so when an answer is left unfinished.
            try:
                await server.handle(
                    _request(scope, call, call.wait_for_disconnect), call.send, call.has_room if call.flow else None
                )
            except (ClientDisconnected, ClientTooSlow):
                return
        elif scope["type"] == "lifespan":
            await lifespan(scope, receive, send)

    return application


class _AsgiCall:
    """One request: yields the pieces of its body, and sends the messages of the answer.

    Attributes:
        flow: the ASGI server's flow control; None if it is not accessible.
    """

    def __init__(self, receive: Receive, send: AsgiSend) -> None:
        self._receive = receive
        self._send = send
        self._more = True
        # uvicorn's `send` is a method of the cycle, which has this attribute. Middleware passes some other function.
        self.flow: Any = getattr(getattr(send, "__self__", None), "flow", None)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._more:
            raise StopAsyncIteration
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        self._more = message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece

    async def wait_for_disconnect(self) -> None:
        """Wait until the client has disconnected: after the body, no other message can come."""
        while (await self._receive())["type"] != "http.disconnect":
            pass  # the rest of an unwanted body

    async def send(self, message: ResponseStart | ResponseBody) -> None:
        """Send a message in the form of ASGI."""
        converted: Message
        if isinstance(message, ResponseStart):
            converted = {"type": "http.response.start", "status": message.status, "headers": message.headers}
        else:
            converted = {"type": "http.response.body", "body": message.data, "more_body": message.more}
        try:
            await self._send(converted)
        except OSError:  # since ASGI 2.4 this may mean that the client has disconnected
            raise ClientDisconnected from None

    def has_room(self) -> bool:
        """True if the server can send without waiting."""
        return not self.flow.write_paused


async def _no_body() -> AsyncIterator[bytes]:
    return
    yield


def _request(
    scope: Scope, body: AsyncIterator[bytes], left: Callable[[], Awaitable[None]] | None = None
) -> HttpRequest:
    root, path = split_path(scope)
    query: bytes = scope.get("query_string", b"")
    headers: list[Any] = scope["headers"]
    return HttpRequest(
        scope.get("method", "GET"), path, query.decode("latin-1"), headers, body, root=root, left=left, scope=scope
    )
