"""What all parts of the SQL store share: an engine, and a schema that is there before the first transaction."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..errors import Unavailable
from .engine import Engine, Result, Stepwise, Transaction
from .schema import migrate
from .sql_dialect import DIALECTS


class SqlPart:
    """A part of the store on `engine`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._dialect = DIALECTS[engine.name]
        self._migrated = False

    async def _run(self, transaction: Callable[[], Transaction[Result]]) -> Result:
        if not self._migrated:
            await self.engine.run(partial(migrate, self._dialect))
            self._migrated = True
        try:
            return await self.engine.run(transaction)
        except Unavailable:
            self._migrated = False  # who knows which database it is when it is back
            raise

    async def _step(self, transaction: Callable[[], Transaction[Result]], *, durable: bool = True) -> Result:
        """Run a transaction of one statement, or of several of which each is right by itself."""
        return await self._run(Stepwise(transaction, durable))
