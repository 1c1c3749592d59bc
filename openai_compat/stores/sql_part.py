"""What all parts of the SQL store share: an engine, and a schema that is there before the first transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ..errors import Unavailable
from .engine import Autocommit, Engine, Result, Row, Transaction
from .port import Key, Order
from .schema import migrate
from .sql_dialect import DIALECTS
from .sql_text import owned, text


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
        return await self._run(Autocommit(transaction, durable))


def rows_after(
    wanted: str, table: str, principal: str, after: str | None, order: Order
) -> Transaction[Sequence[Row] | None]:
    """The rows of a principal in order of insertion, those after the one with this id; None if there is no such row."""
    bound, parameters = "", [text(principal)]
    if after is not None:
        bound = f"and n {'>' if order == 'asc' else '<'} (select n from {table} where principal = $1 and id = $2)"
        parameters.append(text(after))
        known = yield f"select 1 from {table} where principal = $1 and id = $2", owned(Key(principal, after))
        if not known:
            return None
    rows = yield f"select {wanted} and principal = $1 {bound} order by n {order}", parameters
    return rows
