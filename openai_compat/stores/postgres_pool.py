"""The connections of one event loop: made when they are needed, used by one transaction at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Protocol

IDLE = 300.0
"""Seconds after which an unused connection is not trusted any more: something between may have forgotten it."""

CLOSE_TIMEOUT = 1.0
"""Seconds for which a server may take leave, and may confirm that it has stopped working for us."""


class PoolConnection(Protocol):
    """What is used of an asyncpg connection."""

    async def fetch(self, query: str, *args: Any, timeout: float) -> list[Any]:  # noqa: ASYNC109
        """The rows that a statement gives."""
        ...

    async def execute(self, query: str, *, timeout: float) -> str:  # noqa: ASYNC109
        """Run a statement without parameters."""
        ...

    async def close(self, *, timeout: float) -> None:  # noqa: ASYNC109
        """Stop what runs, and say goodbye."""
        ...

    def terminate(self) -> None:
        """Cut it."""
        ...

    def is_closed(self) -> bool:
        """Whether either side has closed it."""
        ...


class Pool:
    """At most `size` connections; the one that was used last is used next.

    Ends when its event loop does, which cancels all tasks: one of them belongs to the pool and says goodbye. After
    that each connection is closed after its use.

    Args:
        connect: makes a connection.
        size: how many there may be.
        limit: seconds to wait for a connection.
        too_many_connections: the error with which a server refuses because it has too many connections.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[PoolConnection]],
        size: int,
        limit: float,
        too_many_connections: type[Exception],
    ) -> None:
        self._connect = connect
        self._limit = limit
        self._too_many_connections = too_many_connections
        self._places: asyncio.LifoQueue[tuple[PoolConnection, float] | None] = asyncio.LifoQueue()
        for _ in range(size):
            self._places.put_nowait(None)
        self._open = 0
        self._closed = False
        self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="PostgreSQL connections")

    async def acquire(self) -> PoolConnection:
        """A connection for the caller alone. Raises TimeoutError, OSError and asyncpg's errors."""
        async with asyncio.timeout(self._limit):
            return await self._acquire()

    async def _acquire(self) -> PoolConnection:
        place = await self._places.get()
        if place is not None:
            connection, since = place
            if not connection.is_closed() and since > monotonic() - IDLE:
                return connection
            self._forget(connection)
        try:
            return await self._new()
        except BaseException:
            self._places.put_nowait(None)
            raise

    async def _new(self) -> PoolConnection:
        """A new connection, or, where the server takes no more, the next of ours that is free."""
        self._open += 1
        try:
            return await self._connect()
        except BaseException as error:
            self._open -= 1
            if not isinstance(error, self._too_many_connections) or not self._open:
                raise
        connection = await self._acquire()
        self._places.put_nowait(None)
        return connection

    async def release(self, connection: PoolConnection) -> None:
        """Give back a connection that is as it was."""
        if self._closed or connection.is_closed():
            await self.discard(connection)
        else:
            self._places.put_nowait((connection, monotonic()))

    async def discard(self, connection: PoolConnection) -> None:
        """Give back a connection that cannot be used again. What it still does is stopped, if the server listens."""
        try:
            with suppress(Exception):
                async with asyncio.timeout(CLOSE_TIMEOUT):  # older asyncpg waits longer than it is told
                    await connection.close(timeout=CLOSE_TIMEOUT)
        finally:
            self.cut(connection)

    def cut(self, connection: PoolConnection) -> None:
        """The same without waiting for anything."""
        self._forget(connection)
        self._places.put_nowait(None)

    def _forget(self, connection: PoolConnection) -> None:
        self._open -= 1
        connection.terminate()

    def invalidate_idle(self) -> None:
        """Close the idle connections: where one was lost, the others most likely are as well."""
        for connection in self._unused():
            self.cut(connection)

    def _unused(self) -> list[PoolConnection]:
        """Take the unused connections out of their places."""
        places = [self._places.get_nowait() for _ in range(self._places.qsize())]
        for place in places:
            if place is None:
                self._places.put_nowait(None)
        return [place[0] for place in places if place is not None]

    async def _keep(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self._closed = True
            await asyncio.gather(*[self.discard(connection) for connection in self._unused()])

    def close_soon(self) -> None:
        """Say goodbye, in the pool's own event loop."""
        self._keeper.cancel()

    async def close(self) -> None:
        """Say goodbye and return when that is done."""
        self._keeper.cancel()
        await asyncio.wait([self._keeper])
