"""How many agents may run at once."""

from __future__ import annotations

import anyio

from ..errors import RateLimited, Unavailable


class Slots:
    """Counts running agents. A slot is given back when its agent has really ended, not when its client has left."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0
        self._unused: anyio.Event | None = None
        self.closed = False
        """True while the server shuts down: no new agent is started."""

    def take(self, number: int) -> None:
        """Take `number` slots, or none: raises RateLimited (429) or, while shutting down, Unavailable (503)."""
        if self.closed:
            raise Unavailable("The server is shutting down.", code="shutting_down")
        if self.used + number > self._limit:
            raise RateLimited("Too many turns are running. Try again shortly.")
        self.used += number

    def release(self) -> None:
        """Give one slot back."""
        self.used -= 1
        if self._unused is not None and not self.used:
            self._unused.set()
            self._unused = None

    async def wait_unused(self) -> None:
        """Return once no agent runs any more."""
        while self.used:
            self._unused = self._unused or anyio.Event()  # shared by all who wait
            await self._unused.wait()
