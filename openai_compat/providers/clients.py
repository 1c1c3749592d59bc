"""The SDK clients of providers: one per provider and event loop, closed once unused and outdated."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import anyio
from anyio.lowlevel import RunVar

CLOSE_TIMEOUT = 5.0
"""Seconds that closing a client may take."""

Owner = TypeVar("Owner")


@dataclass(slots=True)
class _LentClient:
    """A client and its number of current users. The last user closes a `stale` client."""

    client: Any
    users: int = 0
    stale: bool = False


class Clients(Generic[Owner]):
    """Lends out clients, one per owner and event loop: connections cannot move from one event loop to another.

    Args:
        make: makes the client of an owner.
        is_current: returns True while an owner is in use; afterwards its client is closed.
    """

    def __init__(self, make: Callable[[Owner], Any], is_current: Callable[[Owner], bool]) -> None:
        self._make = make
        self._is_current = is_current
        self._clients: RunVar[dict[Owner, _LentClient] | None] = RunVar("provider clients", None)

    def _loop_clients(self) -> dict[Owner, _LentClient]:
        lent = self._clients.get()
        if lent is not None:
            return lent
        clients: dict[Owner, _LentClient] = {}
        self._clients.set(clients)
        return clients

    @asynccontextmanager
    async def lend(self, owner: Owner) -> AsyncGenerator[Any]:
        """Lend the owner's client on this event loop; the client stays open inside the `async with` block."""
        clients = self._loop_clients()
        lent = clients.get(owner)
        if lent is None:
            lent = clients[owner] = _LentClient(self._make(owner))
        lent.users += 1
        try:
            # Clients of replaced settings are closed at the next turn: nothing else would trigger that.
            await self._close_unused()
            yield lent.client
        finally:
            lent.users -= 1
            await self._close_unused()

    def current_client(self, owner: Owner) -> Any:
        """The client that is lent now. Raises KeyError if none is."""
        return self._loop_clients()[owner].client

    async def aclose(self) -> None:
        """Close this event loop's clients; the last user closes a client that is in use."""
        for lent in self._loop_clients().values():
            lent.stale = True
        await self._close_unused()

    async def _close_unused(self) -> None:
        clients = self._loop_clients()
        unused = [(owner, lent) for owner, lent in clients.items() if not lent.users]
        ended = [owner for owner, lent in unused if lent.stale or not self._is_current(owner)]
        for client in [clients.pop(owner).client for owner in ended]:
            # Shielded: a cancelled turn would leave its connections open.
            with anyio.move_on_after(CLOSE_TIMEOUT, shield=True), suppress(Exception):  # the client is no longer needed
                await client.close()
