"""A WebSocket to a server in the same process, without a socket.

async with connect(server, "/v1/responses") as websocket:
    await websocket.send('{"type": "response.create", "model": "agent", "input": "hi"}')
    frame = await websocket.receive()
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import anyio

from openai_compat import Server
from openai_compat.aio.background import Task, spawn
from openai_compat.http import ClientDisconnected, ClientTooSlow, Frame, HttpRequest, RawHeaders

__all__ = ("Closed", "Refused", "WebSocket", "connect")


class Refused(Exception):
    """The server has refused the WebSocket with an HTTP response."""

    def __init__(self, status: int, headers: RawHeaders, body: bytes) -> None:
        super().__init__(f"the server has refused the WebSocket with {status}")
        self.status = status
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        self.body = body


class Closed(Exception):
    """The server has closed the WebSocket; the code is 1006 without a close frame."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the server has closed the WebSocket: {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class WebSocket:
    """The client's end. Nothing is buffered: the server waits for a client that does not receive."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the server's handshake."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self._channel.headers}

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the server has chosen."""
        return self._channel.subprotocol

    async def send(self, frame: Frame) -> None:
        """Send a frame. Raises Closed."""
        try:
            await self._channel.to_server.send(frame)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise Closed(*self._channel.closed) from None

    async def receive(self) -> Frame:
        """Return the next frame. Raises Closed."""
        try:
            return await self._channel.from_server.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            raise Closed(*self._channel.closed) from None

    async def close(self) -> None:
        """Disconnect, and wait until the server has ended this connection."""
        await self._channel.disconnect()


@asynccontextmanager
async def connect(
    server: Server, path: str = "/v1/responses", *, query: str = "", headers: Mapping[str, str] | None = None
) -> AsyncGenerator[WebSocket]:
    """Open a WebSocket to `server`, and close it at the end. Raises Refused."""
    # A server without a key answers to this machine's own names only.
    fields = {"host": "localhost", "connection": "upgrade", "upgrade": "websocket", **(headers or {})}
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()]
    channel = _Channel()

    async def no_body() -> AsyncIterator[bytes]:
        return
        yield

    channel.open(server, HttpRequest("GET", path, query, raw, no_body()))
    try:
        await channel.answered.wait()
        if channel.refused is not None:
            raise Refused(*channel.refused)
        yield WebSocket(channel)
    finally:
        await channel.disconnect()


class _Channel:
    """The server's end, and the state of both ends."""

    def __init__(self) -> None:
        # Without a buffer, so that a client that does not receive slows the agent, as on a socket.
        self.to_server, self._incoming = anyio.create_memory_object_stream[Frame](0)
        self._outgoing, self.from_server = anyio.create_memory_object_stream[Frame](0)
        self.answered = anyio.Event()
        self.refused: tuple[int, RawHeaders, bytes] | None = None
        self.headers: RawHeaders = ()
        self.subprotocol: str | None = None
        # RFC 6455, 7.4.1: the code of a connection that ended without a close frame.
        self.closed = (1006, "")
        self._task: Task | None = None

    def open(self, server: Server, request: HttpRequest) -> None:
        async def run() -> None:
            with suppress(ClientTooSlow):
                await server.connect(request, self)

        self._task = spawn(run, "websocket", self._on_server_end)

    def _on_server_end(self) -> None:
        if not self.answered.is_set():
            # The server ended without an answer; ASGI servers send a 500 then.
            self.refused = (500, (), b"")
        self.answered.set()
        self._incoming.close()
        self._outgoing.close()

    async def disconnect(self) -> None:
        with anyio.CancelScope(shield=True):
            self.to_server.close()
            self.from_server.close()
            if self._task is not None:
                await self._task.wait()

    async def accept(self, headers: RawHeaders, subprotocol: str | None = None) -> None:
        self.headers, self.subprotocol = headers, subprotocol
        self.answered.set()

    async def refuse(self, status: int, headers: RawHeaders, body: bytes) -> None:
        self.refused = (status, headers, body)
        self.answered.set()

    async def receive(self) -> Frame:
        try:
            return await self._incoming.receive()
        except anyio.EndOfStream:
            raise ClientDisconnected from None

    async def send(self, frame: Frame) -> None:
        try:
            await self._outgoing.send(frame)
        except anyio.BrokenResourceError:
            raise ClientDisconnected from None

    async def close(self, code: int, reason: str = "") -> None:
        self.closed = (code, reason)
        self._outgoing.close()
        self.to_server.close()
