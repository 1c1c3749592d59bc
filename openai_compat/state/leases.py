"""Leases of running turns in the store: renewed while the process lives, so that those of a dead one expire."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import anyio

from ..aio.background import Task, spawn
from ..errors import Conflict, OpenAICompatError, Unavailable
from ..policies.limits import LEASE
from ..stores.port import Store

BEAT = 0.5
"""Most seconds between two renewals. A turn also learns by a renewal that it was cancelled."""

Stop: TypeAlias = Callable[[OpenAICompatError], None]


def superseded() -> Conflict:
    """What a turn is stopped with when a newer message takes its place."""
    return Conflict("A newer message in this conversation took its place.", code="superseded", should_retry=False)


class Leases:
    """Renews the tokens of this process's turns, all in one call, while there are any.

    A turn that lost what it held is stopped with Conflict `turn_lost`, a cancelled one with Conflict `cancelled`, and one in
    whose conversation another process has a newer message, which is to supersede it, with Conflict `superseded`. While
    the store is away, turns go on until their lease may have expired.
    """

    def __init__(self, store: Store, lease: float = LEASE) -> None:
        self.seconds = lease
        self._store = store
        self._stops: dict[str, Stop] = {}
        self._task: Task | None = None

    def hold(self, token: str, stop: Stop) -> None:
        """Renew `token` from now on. `stop` is called once if it is lost or cancelled."""
        self._stops[token] = stop
        # A server on which nothing runs has no task, and writes nothing to its store.
        if self._task is None or self._task.done:
            self._task = spawn(self._beat, "leases", lambda: None)

    def drop(self, token: str) -> None:
        """Stop renewing `token`; one that is not held changes nothing."""
        self._stops.pop(token, None)

    async def _beat(self) -> None:
        """Renew until no token is left. `hold` starts it again."""
        # At least three renewals in a lease, so that one that fails does not lose it.
        pause, unreached = min(BEAT, self.seconds / 3), 0.0
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
        # Seconds rather than a time: only the clock of the store counts, those of processes differ and jump.
        renewal = await self._store.renew(tokens, self.seconds)
        for token in tokens:
            if token in renewal.cancelled:
                self._stop(token, Conflict("The turn was cancelled.", code="cancelled", should_retry=False))
            elif token in renewal.superseded:
                self._stop(token, superseded())
            elif token not in renewal.held:
                text = "Another process has taken what this turn held."
                self._stop(token, Conflict(text, code="turn_lost", should_retry=False))

    def _stop(self, token: str, error: OpenAICompatError) -> None:
        stop = self._stops.pop(token, None)
        if stop is not None:
            stop(error)
