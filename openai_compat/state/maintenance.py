"""Maintenance of a server's store: the check at startup, periodic sweeps, and the readiness check."""

from __future__ import annotations

import logging
import random
import time

import anyio

from ..aio.background import Task, spawn
from ..errors import Unavailable
from ..stores.port import Store
from ..stores.schema import UnusableStore
from .degraded import with_timeout
from .state_cleanup import StateCleanup

SWEEP_EVERY = 3600.0
"""Mean time between two sweeps of a process, in seconds."""
FIRST_SWEEP = 10.0
"""Seconds after startup within which the first sweep begins."""
PATIENCE = 5.0
"""Timeout of the check at startup, and of a running sweep at shutdown, in seconds."""
CHECK_TIMEOUT = 1.0
"""Timeout of the readiness check, and lifetime of its cached result, in seconds, so that polling costs the store little."""

QUOTABLE_MODULES = frozenset({"sqlite3", "asyncpg.exceptions"})
"""Modules whose error texts come from the database, and so may be logged."""

logger = logging.getLogger("openai_compat")


class StoreMaintenance:
    """Checks and sweeps a store while a server runs.

    A sweep deletes data that was unused for `retention` seconds, and has agents forget the deleted states; `every` is the mean
    time between sweeps. Every process sweeps: an empty sweep costs little, and no leader election is needed.

    Attributes:
        answers_until: the time until which `is_available` is known to be true (`time.monotonic`).
    """

    def __init__(
        self, store: Store, retention: float, every: float = SWEEP_EVERY, *, cleanup: StateCleanup | None = None
    ) -> None:
        self._store = store
        self._cleanup = cleanup
        self._retention = retention
        self._every = every
        self._sweeping: Task | None = None
        self._checked_at = self.answers_until = 0.0
        self._answers = True

    async def begin(self) -> None:
        """Check the store, and start sweeping. An unavailable store is logged, and is not an error.

        Raises UnusableStore if it can never be used: the file is not a database, or its schema belongs to a later version.
        """
        try:
            await with_timeout(self._store.check, PATIENCE)
        except UnusableStore:
            raise
        except Unavailable as error:
            cause = error.__cause__ or error
            # A driver's error about its settings could contain the password.
            quotable = isinstance(cause, OSError) or type(cause).__module__ in QUOTABLE_MODULES
            reason = f"{type(cause).__name__}: {cause}" if quotable and str(cause) else type(cause).__name__
            text = "the store does not answer (%s): what needs it gets 503 store_unavailable until it does"
            logger.warning(text, reason)
        self._sweeping = spawn(self._sweep_periodically, "sweep", lambda: None)

    async def end(self) -> None:
        """Stop sweeping; a running sweep has PATIENCE seconds to end."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            with anyio.move_on_after(PATIENCE):
                await self._sweeping.wait()
        if self._cleanup is not None:
            with anyio.move_on_after(PATIENCE):
                await self._cleanup.end()

    async def is_available(self) -> bool:
        """True if the store answers now."""
        if time.monotonic() - self._checked_at > CHECK_TIMEOUT:
            self._checked_at = time.monotonic()
            try:
                await with_timeout(self._store.check, CHECK_TIMEOUT)
            except Unavailable:
                self._answers = False
            else:
                self._answers = True
                self.answers_until = self._checked_at + CHECK_TIMEOUT
        return self._answers

    async def _sweep_periodically(self) -> None:
        await anyio.sleep(random.uniform(0, min(FIRST_SWEEP, self._every)))  # noqa: S311  (no secret)
        while True:
            await self._sweep()
            # Random within half the interval: processes that were started together must not sweep together.
            await anyio.sleep(self._every * random.uniform(0.5, 1.5))  # noqa: S311  (no secret)

    async def _sweep(self) -> None:
        try:
            swept = await self._store.sweep(self._retention)
            if swept:
                logger.info("swept: %d that were not used for too long are forgotten", swept)
        except Unavailable:
            logger.info("the store could not be swept: it does not answer")
        except Exception as error:  # serving goes on in any case
            logger.error("the store could not be swept", exc_info=error)
        if self._cleanup is not None:
            await self._cleanup.forget()
