"""An open-loop client: sends requests when they are due, not when the last one was answered, as independent users do."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

from load import LAST_CHUNK, TOKEN

PATIENCE = 30.0
"""Seconds after which a request counts as lost."""
KEPT = 2.0
"""Seconds for which a connection is reused. Servers close older ones, perhaps just as a request is sent."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RETRY_AFTER = re.compile(rb"\r\nretry-after: *\d", re.IGNORECASE)
_WHOLE_STREAM = (b"data: [DONE]", b"event: response.completed")


@dataclass
class Exchange:
    """A request, its timing, and its result. Times are those of `time.perf_counter`."""

    due: float
    begun: float
    """Time when it was sent, or its connection was opened."""
    first: float = 0.0
    """Time of the first token, or of the whole plain answer."""
    end: float = 0.0
    answer: bytes = b""
    error: str = "not answered"
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def answered(self) -> bool:
        return not self.error and self.answer.startswith(b"HTTP/1.1 200 ")

    @property
    def refused(self) -> bool:
        """True for a 429 with Retry-After."""
        return not self.error and self.answer.startswith(b"HTTP/1.1 429 ") and bool(_RETRY_AFTER.search(self.answer))

    @property
    def lost(self) -> bool:
        return not self.answered and not self.refused


class Connection(asyncio.Protocol):
    """Carries one exchange at a time; calls `free` after each."""

    def __init__(self, free: Callable[[Connection], None]) -> None:
        self.open = False
        self.since = 0.0
        """Time when it became free."""
        self._free = free
        self._exchange: Exchange | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transport does not inherit from asyncio's
        self.open = True

    def ask(self, message: bytes, exchange: Exchange) -> None:
        self._exchange = exchange
        self._transport.write(message)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            raise RuntimeError(f"nobody asked for {data[:200]!r}")
        exchange.answer += data
        if not exchange.first and TOKEN in exchange.answer:
            exchange.first = time.perf_counter()
        if _whole(exchange.answer):
            exchange.end = time.perf_counter()
            exchange.first = exchange.first or exchange.end
            exchange.error = ""
            exchange.over.set()
            self._exchange = None
            self.since = exchange.end
            self._free(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        if self._exchange is not None:
            self._exchange.error = f"the connection was cut: {error}"
            self._exchange.over.set()

    def close(self) -> None:
        self._transport.abort()


def _whole(answer: bytes) -> bool:
    head, mark, body = answer.partition(b"\r\n\r\n")
    if not mark:
        return False
    length = _LENGTH.search(head)
    if length is not None:
        return len(body) >= int(length[1])
    return body.endswith(LAST_CHUNK) and any([end in body for end in _WHOLE_STREAM])


class Client:
    """Sends the same request repeatedly, over as many connections as needed."""

    def __init__(self, port: int, message: bytes) -> None:
        self._port = port
        self._message = message
        self._free: list[Connection] = []
        self._all: list[Connection] = []
        self._connecting: set[asyncio.Task[None]] = set()

    async def at(self, rate: float, seconds: float, chance: random.Random) -> list[Exchange]:
        """Send `rate` requests per second at independent random times, without waiting for answers."""
        began = time.perf_counter()
        exchanges: list[Exchange] = []
        due = began + chance.expovariate(rate)
        while due < began + seconds:
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            exchanges.append(self._ask(due))
            due += chance.expovariate(rate)
        await asyncio.sleep(began + seconds - time.perf_counter())
        return exchanges

    async def in_turn(self, clients: int, seconds: float) -> float:
        """Answers per second of `clients` clients that each send a request as soon as the last one was answered or refused."""
        until = time.perf_counter() + seconds

        async def one() -> int:
            answered = 0
            while time.perf_counter() < until:
                exchange = self._ask(time.perf_counter())
                await over([exchange])
                answered += exchange.answered
            return answered

        return sum(await asyncio.gather(*[one() for _ in range(clients)])) / seconds

    def _ask(self, due: float) -> Exchange:
        now = time.perf_counter()
        exchange = Exchange(due, now)
        while self._free:
            connection = self._free.pop()  # the most recently used one
            if connection.open and now - connection.since < KEPT:
                connection.ask(self._message, exchange)
                return exchange
            connection.close()
        task = asyncio.get_running_loop().create_task(self._ask_anew(exchange))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return exchange

    async def _ask_anew(self, exchange: Exchange) -> None:
        """Send the request over a new connection."""
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: Connection(self._free.append), "127.0.0.1", self._port)
        except OSError as error:
            exchange.error = f"no connection: {error}"
            exchange.over.set()
            return
        self._all.append(connection)
        connection.ask(self._message, exchange)

    def close(self) -> None:
        for connection in self._all:
            connection.close()


async def over(exchanges: Sequence[Exchange]) -> None:
    """Wait until all are answered or refused, or PATIENCE is over."""
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            for exchange in exchanges:
                await exchange.over.wait()
