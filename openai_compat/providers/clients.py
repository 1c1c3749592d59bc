"""The SDK clients of providers: one of each for every event loop, closed when nobody will use it any more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import anyio
from anyio.lowlevel import RunVar

CLOSING = 5.0
"""Seconds that closing a client may take."""

Owner = TypeVar("Owner")


@dataclass(slots=True)
class _Lent:
    """A client and how many use it now. `stale` ones are closed by the last of them."""

    client: Any
    users: int = 0
    stale: bool = False


class Clients(Generic[Owner]):
    """Lends clients to those who use them. Connections cannot move from one event loop to another, so each has its own.

    Args:
        make: makes the client of an owner.
        is_current: whether an owner still is in use; clients of one that is not are closed.
    """

    def __init__(self, make: Callable[[Owner], Any], is_current: Callable[[Owner], bool]) -> None:
        self._make = make
        self._is_current = is_current
        self._lent: RunVar[dict[Owner, _Lent] | None] = RunVar("provider clients", None)

    def _here(self) -> dict[Owner, _Lent]:
        lent = self._lent.get()
        if lent is not None:
            return lent
        made: dict[Owner, _Lent] = {}
        self._lent.set(made)
        return made

    @asynccontextmanager
    async def use(self, owner: Owner) -> AsyncGenerator[Any]:
        """The owner's client on this event loop, which is not closed meanwhile."""
        here = self._here()
        lent = here.get(owner)
        if lent is None:
            lent = here[owner] = _Lent(self._make(owner))
        lent.users += 1
        try:
            # Clients of settings that were replaced go when the next turn comes: nothing else wakes up for them.
            await self._close_unused()
            yield lent.client
        finally:
            lent.users -= 1
            await self._close_unused()

    def here(self, owner: Owner) -> Any:
        """The client that is in use now. Raises KeyError if none is."""
        return self._here()[owner].client

    async def aclose(self) -> None:
        """Close this event loop's clients; those in use are closed by their last users."""
        for lent in self._here().values():
            lent.stale = True
        await self._close_unused()

    async def _close_unused(self) -> None:
        here = self._here()
        unused = [(owner, lent) for owner, lent in here.items() if not lent.users]
        ended = [owner for owner, lent in unused if lent.stale or not self._is_current(owner)]
        for client in [here.pop(owner).client for owner in ended]:
            # Shielded: a turn that was cancelled would leave its connections open.
            with anyio.move_on_after(CLOSING, shield=True), suppress(Exception):  # nobody needs it any more
                await client.close()
