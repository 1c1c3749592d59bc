"""Leases of running turns in the store: renewed while the process lives, so that those of a dead process expire."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import anyio

from ..aio.background import Task, spawn
from ..errors import Conflict, OpenAICompatError, Unavailable
from ..policies.limits import LEASE
from ..stores.port import Store

RENEW_INTERVAL = 0.5
"""Maximum seconds between two renewals. A renewal also reports to a turn that it was cancelled."""

Stop: TypeAlias = Callable[[OpenAICompatError], None]


def superseded_error() -> Conflict:
    """The error for a turn that a newer message replaces."""
    return Conflict("A newer message in this conversation took its place.", code="superseded", should_retry=False)


class Leases:
    """Renews the tokens of this process's turns, all in one call, while there are any.

    A turn that has lost a lock is stopped with Conflict `turn_lost`, a cancelled turn with Conflict `cancelled`, and a turn
    that a newer message in another process supersedes with Conflict `superseded`. While the store is unavailable, turns
    continue until their lease may have expired.
    """

    def __init__(self, store: Store, lease: float = LEASE) -> None:
        self.seconds = lease
        self._store = store
        self._stops: dict[str, Stop] = {}
        self._task: Task | None = None

    def hold(self, token: str, stop: Stop) -> None:
        """Renew `token` from now on. `stop` is called once if the token is lost or cancelled."""
        self._stops[token] = stop
        # An idle server has no task, and writes nothing to its store.
        if self._task is None or self._task.done:
            self._task = spawn(self._renew_all, "leases", lambda: None)

    def drop(self, token: str) -> None:
        """Stop renewing `token`. No effect if it is not held."""
        self._stops.pop(token, None)

    async def _renew_all(self) -> None:
        """Renew until no token is left. `hold` starts the task again."""
        # At least three renewals per lease, so that one failed renewal does not lose the lease.
        pause, unreached = min(RENEW_INTERVAL, self.seconds / 3), 0.0
        while self._stops:
            await anyio.sleep(pause)
            if not self._stops:
                return
            try:
                await self._renew(list(self._stops))
                unreached = 0.0
            except Unavailable as error:
                unreached += pause
                if unreached >= self.seconds:  # another process may have taken everything by now
                    for token in list(self._stops):
                        self._stop(token, error)

    async def _renew(self, tokens: list[str]) -> None:
        # A duration, not a point in time: only the store's clock counts, since clocks of processes differ and jump.
        renewal = await self._store.renew(tokens, self.seconds)
        for token in tokens:
            if token in renewal.cancelled:
                self._stop(token, Conflict("The turn was cancelled.", code="cancelled", should_retry=False))
            elif token in renewal.superseded:
                self._stop(token, superseded_error())
            elif token not in renewal.held:
                text = "Another process has taken what this turn held."
                self._stop(token, Conflict(text, code="turn_lost", should_retry=False))

    def _stop(self, token: str, error: OpenAICompatError) -> None:
        stop = self._stops.pop(token, None)
        if stop is not None:
            stop(error)
