"""The care of a server's store: is it there when serving begins, what is too old goes, and who asks hears how it is."""

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

SWEEP_EVERY = 3600.0
"""Seconds between two sweeps of a process."""
FIRST_SWEEP = 10.0
"""Seconds within which it begins with the first."""
PATIENCE = 5.0
"""Seconds for the store's answer when serving begins, and for the last sweep when it ends."""
QUICKLY = 1.0
"""Seconds for its answer while serving, and for which an answer is repeated: nobody can keep it busy by asking."""

QUOTED = frozenset({"sqlite3", "asyncpg.exceptions"})
"""Modules whose errors are those of a database."""

logger = logging.getLogger("openai_compat")


class StoreMaintenance:
    """Looks after a store while a server serves. Every process does so: a sweep that finds nothing costs little.

    It forgets what was not used for `retention` seconds, `every` so many seconds. That is random by a half, so that
    processes which were started together do not sweep together.
    """

    def __init__(self, store: Store, retention: float, every: float = SWEEP_EVERY) -> None:
        self._store = store
        self._retention = retention
        self._every = every
        self._sweeping: Task | None = None
        self._asked = 0.0
        self._answers = True

    async def begin(self) -> None:
        """See whether the store answers, which the log says if not, and sweep from now on.

        Raises UnusableStore for one that will never do: a file that is no database, a schema of a later version.
        """
        try:
            await with_timeout(self._store.check, PATIENCE)
        except UnusableStore:
            raise
        except Unavailable as error:
            text = "the store does not answer (%s): what needs it gets 503 store_unavailable until it does"
            logger.warning(text, _reason(error.__cause__ or error))
        self._sweeping = spawn(self._sweep_now_and_then, "sweep", lambda: None)

    async def end(self) -> None:
        """Sweep no more."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            with anyio.move_on_after(PATIENCE):
                await self._sweeping.wait()

    async def is_available(self) -> bool:
        """Whether the store can be used now."""
        if time.monotonic() - self._asked > QUICKLY:
            self._asked = time.monotonic()
            self._answers = await self._is_available_now()
        return self._answers

    async def _is_available_now(self) -> bool:
        try:
            await with_timeout(self._store.check, QUICKLY)
        except Unavailable:
            return False
        return True

    async def _sweep_now_and_then(self) -> None:
        await anyio.sleep(random.uniform(0, min(FIRST_SWEEP, self._every)))  # noqa: S311  (no secret)
        while True:
            await self._sweep()
            await anyio.sleep(self._every * random.uniform(0.5, 1.5))  # noqa: S311

    async def _sweep(self) -> None:
        try:
            swept = await self._store.sweep(self._retention)
            if swept:
                logger.info("swept: %d that were not used for too long are forgotten", swept)
        except Unavailable:
            logger.info("the store could not be swept: it does not answer")
        except Exception as error:  # serving goes on in any case
            logger.error("the store could not be swept", exc_info=error)


def _reason(error: BaseException) -> str:
    """What to tell of it. The text of what a driver says of its settings could have the password in it."""
    quotable = isinstance(error, OSError) or type(error).__module__ in QUOTED
    return f"{type(error).__name__}: {error}" if quotable and str(error) else type(error).__name__
