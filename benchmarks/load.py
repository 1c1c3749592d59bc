"""The load client: bare asyncio protocols that count what arrives and parse as little as possible."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast
from urllib.request import urlopen

import uvloop
from servers.agents import PIECE

EVENT = b"data: "
TAIL = len(EVENT) - 1
"""Bytes kept between reads: an event's mark may be split across two reads, but must not be counted twice."""
LAST_CHUNK = b"0\r\n\r\n"
TIMEOUT = 120.0
"""Seconds after which an unfinished answer counts as an error."""

TOKEN = PIECE.encode()

Messages = Sequence[dict[str, Any]]

run = uvloop.run
"""Runs a client. With a faster loop, the server is the bottleneck and not the client."""


def request(model: str, messages: Messages, *, stream: bool = False) -> bytes:
    """The bytes of a chat request. The query string is for the floor server, which reads no JSON."""
    number = messages[-1]["content"] if stream else ""
    body = {"model": model, "messages": messages, "stream": stream}
    return post(f"/v1/chat/completions?{model}&{number}", body)


def response_request(events: int, model: str = "burst", **more: object) -> bytes:
    """The bytes of a request for a streamed response; the query string is for the floor server."""
    body = {"model": model, "input": str(events), "stream": True, **more}
    return post(f"/v1/responses?responses&{events}", body)


def post(target: str, value: object) -> bytes:
    """The bytes of a request with a JSON body."""
    body = json.dumps(value).encode()
    head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Stream(asyncio.Protocol):
    """One streamed answer. `first` is set at its first event, `done` at its end."""

    def __init__(self, message: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.first: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()
        self.events = 0
        self.size = 0
        self._message = message
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transport does not inherit from asyncio's
        self._transport.write(self._message)

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
                future.exception()  # marks the exception as retrieved: asyncio would log it if nobody awaits the future

    def close(self) -> None:
        self._transport.abort()


class KeptAlive(asyncio.Protocol):
    """Sends one request after another over one connection until `until`, and counts the answers.

    `ask` maps the body of the last answer (empty at first) to the next request.
    """

    def __init__(self, ask: Callable[[bytes], bytes], until: float) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answers = 0
        self.seconds: list[float] = []
        """Duration of each answer."""
        self._ask = ask
        self._until = until
        self._received = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transport does not inherit from asyncio's
        self._sent = time.perf_counter()
        self._transport.write(self._ask(b""))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, mark, body = self._received.partition(b"\r\n\r\n")
        if not mark or len(body) < _length(head):
            return
        _expect_ok(head)
        self._received = b""
        self.answers += 1
        now = time.perf_counter()
        self.seconds.append(now - self._sent)
        if now < self._until:
            self._sent = now
            self._transport.write(self._ask(body))
        else:
            self.done.set_result(None)
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("the answer was cut short"))


class FirstToken(asyncio.Protocol):
    """Requests one stream after another over one connection until `until`, and times the first token of each."""

    def __init__(self, message: bytes, until: float) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.seconds: list[float] = []
        self._message = message
        self._until = until

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transport does not inherit from asyncio's
        self._next()

    def _next(self) -> None:
        self._received = b""
        self._waiting = True
        self._sent = time.perf_counter()
        self._transport.write(self._message)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._waiting and TOKEN in self._received:
            self.seconds.append(time.perf_counter() - self._sent)
            self._waiting = False
        if not self._received.endswith(LAST_CHUNK):
            return
        _expect_ok(self._received)
        if time.perf_counter() < self._until:
            self._next()
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


def fetched(port: int, path: str) -> bytes:
    """The body of a GET."""
    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=TIMEOUT) as answer:
        body: bytes = answer.read()
    return body


async def open_streams(port: int, message: bytes, count: int) -> list[Stream]:
    """Open `count` streams, and wait for the first event of each."""
    loop = asyncio.get_running_loop()
    streams: list[Stream] = []
    for _ in range(count):
        _, stream = await loop.create_connection(lambda: Stream(message), "127.0.0.1", port)
        streams.append(stream)
    async with asyncio.timeout(TIMEOUT):
        await asyncio.gather(*[stream.first for stream in streams])
    return streams


async def ended(streams: Sequence[Stream]) -> None:
    """Wait until all streams have ended."""
    async with asyncio.timeout(TIMEOUT):
        await asyncio.gather(*[stream.done for stream in streams])


async def requests_per_second(port: int, message: bytes, *, connections: int, seconds: float) -> float:
    """Answers per second over `connections` keep-alive connections, each with one request at a time."""
    began = time.perf_counter()
    clients = await _kept_alive([port] * connections, [lambda _: message] * connections, seconds)
    return sum([client.answers for client in clients]) / (time.perf_counter() - began)


async def latencies(port: int, message: bytes, *, connections: int, seconds: float) -> list[float]:
    """Duration of each answer in seconds, over the same kind of connections."""
    clients = await _kept_alive([port] * connections, [lambda _: message] * connections, seconds)
    return [taken for client in clients for taken in client.seconds]


async def first_tokens(port: int, message: bytes, *, seconds: float) -> list[float]:
    """Seconds to the first token of each stream, one stream at a time."""
    until = time.perf_counter() + seconds
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: FirstToken(message, until), "127.0.0.1", port)
    async with asyncio.timeout(seconds + TIMEOUT):
        await client.done
    return client.seconds


async def turns_per_second(ports: Sequence[int], *, clients: int, turns: int, seconds: float) -> float:
    """Turns per second of several clients, distributed over the servers: see Conversation."""
    began = time.perf_counter()
    conversations = [Conversation(turns) for _ in range(clients)]
    await _kept_alive([ports[n % len(ports)] for n in range(clients)], conversations, seconds)
    return sum([conversation.turns for conversation in conversations]) / (time.perf_counter() - began)


async def _kept_alive(
    ports: Sequence[int], asks: Sequence[Callable[[bytes], bytes]], seconds: float
) -> list[KeptAlive]:
    """Run one client per connection until the time is up."""
    loop, until = asyncio.get_running_loop(), time.perf_counter() + seconds
    clients: list[KeptAlive] = []
    for port, ask in zip(ports, asks, strict=True):
        _, client = await loop.create_connection(partial(KeptAlive, ask, until), "127.0.0.1", port)
        clients.append(client)
    async with asyncio.timeout(seconds + TIMEOUT):
        await asyncio.gather(*[client.done for client in clients])
    return clients


class Conversation:
    """Requests of a client that creates a conversation, takes `length` turns in it, and creates the next. Counts the turns."""

    def __init__(self, length: int) -> None:
        self.turns = 0
        self._length = length
        self._left = 0
        self._id = ""

    def __call__(self, answer: bytes) -> bytes:
        """The next request, given the last answer."""
        if not self._left:
            self.turns += bool(self._id)
            self._left, self._id = self._length, ""
            return post("/v1/conversations", {})
        if not self._id:
            self._id = json.loads(answer)["id"]
        else:
            self.turns += 1
        self._left -= 1
        return post("/v1/responses", {"model": "plain", "input": "Hello there.", "conversation": self._id})
