"""A TCP proxy in front of PostgreSQL: slow, or losing a message at a chosen moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal, TypeAlias

Loses: TypeAlias = Literal["request", "answer"]


class Proxy:
    """Forwards bytes, each time after `latency` seconds.

    `freeze` holds them back until `thaw`. `lose` makes the proxy drop the next client message that contains `word`, or the
    answer to that message; the connection then ends. `lost` is the number of dropped messages so far.
    """

    def __init__(self, port: int, latency: float) -> None:
        self.port = 0
        self.lost = 0
        self._target = port
        self._latency = latency
        self._loses: Loses = "answer"
        self._word: bytes | None = None
        self._flows = asyncio.Event()
        self._flows.set()

    def freeze(self) -> None:
        self._flows.clear()

    def thaw(self) -> None:
        self._flows.set()

    def lose(self, what: Loses, word: bytes) -> None:
        self._loses, self._word = what, word

    def losing(self, data: bytes) -> Loses | None:
        if self._word is None or self._word not in data:
            return None
        self._word = None
        self.lost += 1
        return self._loses

    async def pause(self) -> None:
        await asyncio.sleep(self._latency)
        await self._flows.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        line = _Line(self)
        ways = [
            asyncio.ensure_future(line.up(reader, to_server)),
            asyncio.ensure_future(line.down(from_server, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            writer.close()
            to_server.close()


class _Line:
    """One connection, in both directions."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._answer_is_lost = False

    async def up(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                lost = self._proxy.losing(data)
                if lost == "request":
                    return
                self._answer_is_lost = lost == "answer"
                await self._pass_on(data, target)

    async def down(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while (data := await source.read(65536)) and not self._answer_is_lost:
                await self._pass_on(data, target)

    async def _pass_on(self, data: bytes, target: asyncio.StreamWriter) -> None:
        await self._proxy.pause()
        target.write(data)
        await target.drain()


@asynccontextmanager
async def proxy(port: int, latency: float = 0.0) -> AsyncIterator[Proxy]:
    """A proxy for the server on `port`."""
    made = Proxy(port, latency)
    server = await asyncio.start_server(made.serve, "127.0.0.1")
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
