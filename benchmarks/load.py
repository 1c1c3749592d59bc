"""The client: bare asyncio protocols that count what comes back and understand no more of it than they must."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence

EVENT = b"data: "
TAIL = len(EVENT) - 1
"""Bytes kept from one read to the next: an event's mark may be cut in two, but is never counted twice."""
LAST_CHUNK = b"0\r\n\r\n"
TIMEOUT = 120.0
"""Seconds after which an answer that has not ended is taken for a fault."""

Messages = Sequence[dict[str, str]]


def request(model: str, messages: Messages, *, stream: bool = False) -> bytes:
    """The bytes of a chat request. The query string is for the floor, which reads no JSON."""
    body = json.dumps({"model": model, "messages": messages, "stream": stream}).encode()
    number = messages[-1]["content"] if stream else ""
    head = f"POST /v1/chat/completions?{model}&{number} HTTP/1.1\r\nHost: localhost\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Stream(asyncio.Protocol):
    """One streamed answer. `first` is set with its first event, `done` with its end."""

    def __init__(self, message: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.first: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()
        self.events = 0
        self.size = 0
        self._message = message
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._message)

    def data_received(self, data: bytes) -> None:
        if not self.size:
            _expect_ok(data)
        self.size += len(data)
        data = self._tail + data
        self.events += data.count(EVENT)
        self._tail = data[-TAIL:]
        if self.events and not self.first.done():
            self.first.set_result(None)
        if self._tail == LAST_CHUNK and not self.done.done():
            self.done.set_result(None)
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        for future in (self.first, self.done):
            if not future.done():
                future.set_exception(ConnectionError("the answer was cut short"))
                future.exception()  # those that nobody waits for are no news

    def close(self) -> None:
        self._transport.abort()


class KeptAlive(asyncio.Protocol):
    """Sends one request after another over one connection until `until`, and counts the answers."""

    def __init__(self, message: bytes, until: float) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answers = 0
        self._message = message
        self._until = until
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._message)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, mark, body = self._received.partition(b"\r\n\r\n")
        if not mark or len(body) < _length(head):
            return
        _expect_ok(head)
        self._received = b""
        self.answers += 1
        if time.perf_counter() < self._until:
            self._transport.write(self._message)
        else:
            self.done.set_result(None)
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("the answer was cut short"))


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])


def _expect_ok(head: bytes) -> None:
    if not head.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"not a 200: {head[:500]!r}")


async def open_streams(port: int, message: bytes, count: int) -> list[Stream]:
    """Open `count` streams, each of which has sent its first event."""
    loop = asyncio.get_running_loop()
    streams: list[Stream] = []
    for _ in range(count):
        _, stream = await loop.create_connection(lambda: Stream(message), "127.0.0.1", port)
        streams.append(stream)
    async with asyncio.timeout(TIMEOUT):
        await asyncio.gather(*[stream.first for stream in streams])
    return streams


async def ended(streams: Sequence[Stream]) -> None:
    """Wait until all of them have ended."""
    async with asyncio.timeout(TIMEOUT):
        await asyncio.gather(*[stream.done for stream in streams])


async def requests_per_second(port: int, message: bytes, *, connections: int, seconds: float) -> float:
    """Answers per second over `connections` kept-alive connections, each with one request at a time."""
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    clients: list[KeptAlive] = []
    for _ in range(connections):
        _, client = await loop.create_connection(lambda: KeptAlive(message, began + seconds), "127.0.0.1", port)
        clients.append(client)
    async with asyncio.timeout(seconds + TIMEOUT):
        await asyncio.gather(*[client.done for client in clients])
    return sum([client.answers for client in clients]) / (time.perf_counter() - began)
