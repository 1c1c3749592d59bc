"""Slots that all processes with one store share: how many agents run at once, wherever they run."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from functools import partial

import anyio

from .errors import OpenAICompatError, Unavailable
from .fail_open import FailOpen
from .leases import Leases
from .stores.port import LEASE, Store
from .tasks import Task, spawn

POOL = "turns"

PATIENCE = 1.0
"""Seconds to wait for the store to take slots back. It gets them by itself when their lease is over."""

logger = logging.getLogger("openai_compat")


class SharedSlots:
    """The slots of the store's pool, of `size` slots, that this process holds: one for each agent that it runs.

    They are renewed while they are held (`leases`), so those of a dead process come back. While the store cannot be
    reached, agents run without one: the process has a limit of its own. It does not matter which agent has which.
    """

    def __init__(self, store: Store, size: int, leases: Leases | None) -> None:
        self._store = store
        self._size = size
        self._leases = leases
        self._held: list[str] = []
        self._without = 0
        self._returning: set[Task] = set()
        self._shared = FailOpen("only each process's own limit bounds how many agents run")

    async def take(self, number: int) -> bool:
        """Take as many slots, all or none. False if there are not so many."""
        await self.settle()
        granted: list[str] = []
        try:
            taken = await self._shared.ask(partial(self._take, number, granted))
        except BaseException:
            self._give_back(granted)
            raise
        if taken is None:
            self._give_back(granted)
            self._without += number
        elif taken:
            self._hold(granted)
        else:
            self._give_back(granted)
        return taken is not False

    async def _take(self, number: int, granted: list[str]) -> bool:
        """A slot that is being taken counts as granted: a cancellation may meet the store when it has given it."""
        for _ in range(number):
            granted.append(secrets.token_hex(16))
            if not await self._store.take_slot(POOL, granted[-1], self._size, self._lease):
                granted.pop()
                return False
        return True

    @property
    def _lease(self) -> float:
        return LEASE if self._leases is None else self._leases.seconds

    def _hold(self, tokens: Sequence[str]) -> None:
        self._held += tokens
        if self._leases is not None:
            for token in tokens:
                self._leases.hold(token, partial(self._lost, token))

    def _lost(self, token: str, error: OpenAICompatError) -> None:
        """The agent goes on: that its slot is another's by now only means that one too many runs."""
        if token in self._held:
            self._held.remove(token)
            self._without += 1
            logger.warning("a slot that is shared with other processes was lost: %s", error.code)

    def release(self) -> None:
        """An agent has ended."""
        if self._without:
            self._without -= 1
        else:
            self._give_back([self._held.pop()])

    def _give_back(self, tokens: Sequence[str]) -> None:
        for token in tokens:
            if self._leases is not None:
                self._leases.drop(token)
        if tokens:
            self._returning = {task for task in self._returning if not task.done}
            self._returning.add(spawn(partial(self._free, tokens), "slots given back", lambda: None))

    async def _free(self, tokens: Sequence[str]) -> None:
        try:
            for token in tokens:
                await self._store.free_slot(POOL, token)
        except Unavailable:
            logger.info("a slot could not be given back; it is free again when its lease is over")

    async def settle(self) -> None:
        """Return once the slots that were given back are free for others, or the store has had its time."""
        returning = [task for task in self._returning if not task.done]
        if returning:
            with anyio.move_on_after(PATIENCE, shield=True):
                for task in returning:
                    await task.wait()
