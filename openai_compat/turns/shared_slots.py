"""Slots shared by all processes with the same store: a limit on agents running at once in all of them."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import anyio

from ..aio.background import Task, spawn
from ..errors import OpenAICompatError, Unavailable
from ..policies.limits import LEASE
from ..state.degraded import StoreFallback
from ..state.leases import Leases
from ..stores.port import Store

POOL = "turns"

RELEASE_TIMEOUT = 1.0
"""Seconds to wait for the store to release slots. It releases them on its own when their lease expires."""

logger = logging.getLogger("openai_compat")


@dataclass(slots=True)
class PendingGrant:
    """A request for slots that the store has not answered yet."""

    number: int
    granted: list[str] = field(default_factory=list[str])
    answered: bool = False
    given_up: bool = False


class SharedSlots:
    """This process's slots of the store's pool, which has `size` slots: one for each agent that runs here.

    Their leases are renewed while they are held (`leases`), so the slots of a dead process become free. While the store is
    unreachable, agents run without one, within the limit of the process. Slots are not tied to particular agents.
    """

    def __init__(self, store: Store, size: int, leases: Leases | None) -> None:
        self._store = store
        self._size = size
        self._leases = leases
        self._held: list[str] = []
        self._without_slot = 0
        self._returning: set[Task] = set()
        self._shared = StoreFallback("only each process's own limit bounds how many agents run")

    async def take(self, number: int) -> bool:
        """Take `number` slots or none; False if too few are free."""
        pending, taken = PendingGrant(number), None
        try:
            taken = await self._shared.call(lambda: self._request_slots(pending))
        finally:
            if not taken:
                pending.given_up = True
                self._release_abandoned(pending)
        # The store is unreachable: the agents run without slots, within the limit of this process.
        if taken is None:
            self._without_slot += number
        elif taken:
            self._hold(pending.granted)
        return taken is not False

    async def _request_slots(self, pending: PendingGrant) -> bool:
        try:
            return await self._take_from_store(pending)
        finally:
            pending.answered = True
            self._release_abandoned(pending)

    async def _take_from_store(self, pending: PendingGrant) -> bool:
        """Take the slots. Each one counts as granted before the store answers, since the answer may get lost."""
        await self.wait_released()
        lease = LEASE if self._leases is None else self._leases.seconds
        for _ in range(pending.number):
            token = secrets.token_hex(16)
            pending.granted.append(token)
            if not await self._store.take_slot(POOL, token, self._size, lease):
                pending.granted.remove(token)
                return False
        return True

    def _release_abandoned(self, pending: PendingGrant) -> None:
        """Release the slots of an abandoned request once the store has answered."""
        if pending.given_up and pending.answered:
            self._return_slots(pending.granted)

    def _hold(self, tokens: Sequence[str]) -> None:
        self._held += tokens
        if self._leases is not None:
            for token in tokens:
                self._leases.hold(token, partial(self._on_lease_lost, token))

    def _on_lease_lost(self, token: str, error: OpenAICompatError) -> None:
        """Let the agent continue without a slot: if another process took the slot, one agent too many runs."""
        if token in self._held:
            self._held.remove(token)
            self._without_slot += 1
            logger.warning("a slot that is shared with other processes was lost: %s", error.code)

    def release(self) -> None:
        """Release the slot of an agent that has ended, if it had a shared one."""
        if self._without_slot:
            self._without_slot -= 1
        else:
            self._return_slots([self._held.pop()])

    def _return_slots(self, tokens: Sequence[str]) -> None:
        for token in tokens:
            if self._leases is not None:
                self._leases.drop(token)
        if tokens:
            self._returning = {task for task in self._returning if not task.done}
            self._returning.add(spawn(lambda: self._free_slots(tokens), "slots given back", lambda: None))

    async def _free_slots(self, tokens: Sequence[str]) -> None:
        try:
            for token in tokens:
                await self._store.free_slot(POOL, token)
        except Unavailable:
            logger.info("a slot could not be given back; it is free again when its lease is over")

    async def wait_released(self) -> None:
        """Return once the released slots are free for others, or the store has timed out."""
        returning = [task for task in self._returning if not task.done]
        if returning:
            # A hanging database must not also delay the client.
            with anyio.move_on_after(RELEASE_TIMEOUT, shield=True):
                for task in returning:
                    await task.wait()
