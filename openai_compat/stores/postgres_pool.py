"""The connection pool of one event loop. Each connection is used by one transaction at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Protocol

IDLE = 300.0
"""Seconds after which an idle connection is not reused: a firewall in between may have dropped it."""

CLOSE_TIMEOUT = 1.0
"""Timeout for closing a connection, and for a rollback, in seconds."""

_keepers: set[asyncio.Task[None]] = set()
"""The tasks that close a pool with its event loop. A loop holds its tasks weakly: without this set, the garbage collector
would destroy the task of a server that nobody has closed, and its connections with it."""


class PoolConnection(Protocol):
    """The methods of an asyncpg connection that the pool uses."""

    async def fetch(self, query: str, *args: Any, timeout: float) -> list[Any]:  # noqa: ASYNC109  (asyncpg's own)
        """Run a statement and return its rows."""
        ...

    async def execute(self, query: str, *, timeout: float) -> str:  # noqa: ASYNC109  (asyncpg's own)
        """Run a statement without parameters."""
        ...

    async def close(self, *, timeout: float) -> None:  # noqa: ASYNC109  (asyncpg's own)
        """Stop the running statement, and close the connection cleanly."""
        ...

    def terminate(self) -> None:
        """Abort the connection without waiting."""
        ...

    def is_closed(self) -> bool:
        """True if either side has closed the connection."""
        ...


class Pool:
    """At most `size` connections; the most recently used one is used next.

    Args:
        connect: opens a connection.
        size: the maximum number of connections.
        limit: timeout for getting a connection, in seconds.
        too_many_connections: the error with which the server refuses further connections.
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
        # One place per connection, None if it is not open yet. Last in, first out, so that surplus connections become idle.
        self._places: asyncio.LifoQueue[tuple[PoolConnection, float] | None] = asyncio.LifoQueue()
        for _ in range(size):
            self._places.put_nowait(None)
        self._open = 0
        self._closed = False
        # An event loop that ends cancels its tasks: this task then closes the pool.
        self._keeper = asyncio.get_running_loop().create_task(self._close_with_loop(), name="PostgreSQL connections")
        _keepers.add(self._keeper)
        self._keeper.add_done_callback(_keepers.discard)

    async def acquire(self) -> PoolConnection:
        """Take a connection. Raises TimeoutError, OSError and asyncpg's errors."""
        if not self._places.empty():
            place = self._places.get_nowait()
            if place is not None and self._is_usable(*place):  # the usual case, without waiting
                return place[0]
            self._places.put_nowait(place)
        async with asyncio.timeout(self._limit):
            return await self._acquire()

    @staticmethod
    def _is_usable(connection: PoolConnection, since: float) -> bool:
        return not connection.is_closed() and since > monotonic() - IDLE

    async def _acquire(self) -> PoolConnection:
        place = await self._places.get()
        if place is not None:
            if self._is_usable(*place):
                return place[0]
            self._terminate(place[0])
        try:
            return await self._open_connection()
        except BaseException:  # the place must not be lost
            self._places.put_nowait(None)
            raise

    async def _open_connection(self) -> PoolConnection:
        """Open a connection, or, if the server refuses more, wait for one of the pool's own."""
        self._open += 1
        try:
            return await self._connect()
        except BaseException as error:
            self._open -= 1
            if not isinstance(error, self._too_many_connections) or not self._open:
                raise
        connection = await self._acquire()
        self._places.put_nowait(None)  # the place reserved for the new connection
        return connection

    async def release(self, connection: PoolConnection) -> None:
        """Return a reusable connection to the pool."""
        if self._closed or connection.is_closed():
            await self.discard(connection)
        else:
            self._places.put_nowait((connection, monotonic()))

    async def discard(self, connection: PoolConnection) -> None:
        """Close a connection that cannot be reused. A running statement is stopped, if the server answers."""
        try:
            with suppress(Exception):
                async with asyncio.timeout(CLOSE_TIMEOUT):  # older asyncpg exceeds its own timeout
                    await connection.close(timeout=CLOSE_TIMEOUT)
        finally:
            self.abort(connection)

    def abort(self, connection: PoolConnection) -> None:
        """Abort a connection without waiting."""
        self._terminate(connection)
        self._places.put_nowait(None)

    def _terminate(self, connection: PoolConnection) -> None:
        self._open -= 1
        connection.terminate()

    def invalidate_idle(self) -> None:
        """Close the idle connections: if one was lost, the others most likely are too."""
        for connection in self._take_idle():
            self.abort(connection)

    def _take_idle(self) -> list[PoolConnection]:
        """Take all idle connections out of the pool."""
        places = [self._places.get_nowait() for _ in range(self._places.qsize())]
        for place in places:
            if place is None:
                self._places.put_nowait(None)
        return [place[0] for place in places if place is not None]

    async def _close_with_loop(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self._closed = True
            await asyncio.gather(*[self.discard(connection) for connection in self._take_idle()])

    def close_soon(self) -> None:
        """Close the pool in the background. Call it in the pool's event loop."""
        self._keeper.cancel()

    async def close(self) -> None:
        """Close all idle connections, and wait until they are closed. Connections in use are closed when they are returned."""
        self._keeper.cancel()
        await asyncio.wait([self._keeper])
