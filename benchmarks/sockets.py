"""The chat WebSocket client: writes frames by hand, and counts those that arrive without parsing them."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Sequence
from typing import cast

from load import TIMEOUT

CHUNK = b'"content_type"'
LAST = b'"role"'
"""A key that only the last frame of a turn has, the whole message."""
TAIL = len(CHUNK) - 1
MASK = bytes(4)
HANDSHAKE = (
    b"GET /chat HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: c2l4dGVlbiBieXRlcy4uLg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def say(model: str, events: int) -> bytes:
    """The message frame that requests `events` pieces."""
    payload = json.dumps({"role": "user", "content": str(events), "model": model}).encode()
    assert len(payload) < 126
    return struct.pack("!BB", 0x81, 0x80 | len(payload)) + MASK + payload


class Socket(asyncio.Protocol):
    """One connection, with one turn if `said` is not empty. `open` is set at the handshake, `done` at the turn's end."""

    def __init__(self, said: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.open: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()
        self.events: int = 0
        self._said = said
        self._tail: bytes = b""
        self._ending = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transport does not inherit from asyncio's
        self._transport.write(HANDSHAKE)

    def data_received(self, data: bytes) -> None:
        if not self.open.done():
            if not data.startswith(b"HTTP/1.1 101 "):
                raise RuntimeError(f"not a 101: {data[:500]!r}")
            self.open.set_result(None)
            self._transport.write(self._said)
        data = self._tail + data
        self.events += data.count(CHUNK)
        self._ending = self._ending or LAST in data
        self._tail = data[-TAIL:]
        if self._ending and data.endswith(b"}") and not self.done.done():
            self.done.set_result(None)
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        for future in (self.open, self.done):
            if not future.done():
                future.set_exception(ConnectionError("the connection was cut"))
                future.exception()  # marks the exception as retrieved: asyncio would log it if nobody awaits the future

    def close(self) -> None:
        self._transport.abort()


async def opened(port: int, count: int, said: bytes = b"") -> list[Socket]:
    """Open `count` connections, and send the same frame on each."""
    loop = asyncio.get_running_loop()
    sockets: list[Socket] = []
    for _ in range(count):
        _, socket = await loop.create_connection(lambda: Socket(said), "127.0.0.1", port)
        sockets.append(socket)
    async with asyncio.timeout(TIMEOUT):
        await asyncio.gather(*[socket.open for socket in sockets])
    return sockets


async def ended(sockets: Sequence[Socket]) -> None:
    """Wait until the turns have ended."""
    async with asyncio.timeout(TIMEOUT):
        await asyncio.gather(*[socket.done for socket in sockets])
