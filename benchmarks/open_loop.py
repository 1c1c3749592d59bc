"""A client that asks when it is time to, and not when it was answered: what people do who know nothing of each other."""

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
"""Seconds after which a request is lost."""
KEPT = 2.0
"""Seconds for which a connection is used again. Servers close those that are older, maybe just when one asks."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RETRY_AFTER = re.compile(rb"\r\nretry-after: *\d", re.IGNORECASE)
_WHOLE_STREAM = (b"data: [DONE]", b"event: response.completed")


@dataclass
class Exchange:
    """A request, when it was due and begun, and what came of it. Times are those of `time.perf_counter`."""

    due: float
    begun: float
    """When it was sent, or a connection for it begun."""
    first: float = 0.0
    """The first token, or the whole of a plain answer."""
    end: float = 0.0
    answer: bytes = b""
    error: str = "not answered"
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def answered(self) -> bool:
        return not self.error and self.answer.startswith(b"HTTP/1.1 200 ")

    @property
    def refused(self) -> bool:
        """With 429, and told when to come again."""
        return not self.error and self.answer.startswith(b"HTTP/1.1 429 ") and bool(_RETRY_AFTER.search(self.answer))

    @property
    def lost(self) -> bool:
        return not self.answered and not self.refused


class Connection(asyncio.Protocol):
    """Carries one exchange at a time; `free` is called after each."""

    def __init__(self, free: Callable[[Connection], None]) -> None:
        self.open = False
        self.since = 0.0
        """When it became free."""
        self._free = free
        self._exchange: Exchange | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's says that it is none
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
    """Sends the same request again and again, over as many connections as it takes."""

    def __init__(self, port: int, message: bytes) -> None:
        self._port = port
        self._message = message
        self._free: list[Connection] = []
        self._all: list[Connection] = []
        self._connecting: set[asyncio.Task[None]] = set()

    async def at(self, rate: float, seconds: float, chance: random.Random) -> list[Exchange]:
        """Ask so many times a second, at times that do not depend on each other. Waits for no answer."""
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
        """Answers per second, if so many ask again whenever they were answered or refused."""
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
            connection = self._free.pop()  # the one that was used last
            if connection.open and now - connection.since < KEPT:
                connection.ask(self._message, exchange)
                return exchange
            connection.close()
        task = asyncio.get_running_loop().create_task(self._ask_anew(exchange))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return exchange

    async def _ask_anew(self, exchange: Exchange) -> None:
        """Over a new connection."""
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
    """Wait until all are answered or refused, or have had their time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            for exchange in exchanges:
                await exchange.over.wait()
