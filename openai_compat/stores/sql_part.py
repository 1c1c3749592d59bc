"""The base class of all parts of the SQL store, and the decorators that turn transactions into methods.

    @autocommit
    def get_file(self, key: Key) -> Transaction[StoredFile | None]:
        rows = yield "select ... where principal = $1 and id = $2", key_columns(key)
        return _file(rows[0]) if rows else None

is called as `await store.get_file(key)`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial, wraps
from types import CoroutineType
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from ..errors import Unavailable
from .engine import Autocommit, Engine, Result, Row, Transaction
from .port import Key, Order
from .schema import migrate
from .sql_dialect import DIALECTS
from .sql_text import key_columns, text


class SqlPart:
    """A part of the store on `engine`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.dialect = DIALECTS[engine.name]
        self._migrated = False

    async def run(self, transaction: Callable[[], Transaction[Result]]) -> Result:
        """Run a transaction, after any pending migration of the schema."""
        if not self._migrated:
            await self.engine.run(lambda: migrate(self.dialect))
            self._migrated = True
        try:
            return await self.engine.run(transaction)
        except Unavailable:
            self._migrated = False  # the next connection may reach another database, such as a restored one
            raise


Part = TypeVar("Part", bound=SqlPart)
Params = ParamSpec("Params")


def atomic(
    method: Callable[Concatenate[Part, Params], Transaction[Result]],
) -> Callable[Concatenate[Part, Params], CoroutineType[Any, Any, Result]]:
    """Run the method's statements as one transaction: all of them, or none."""
    return _as_coroutine(method, lambda transaction: transaction)


def autocommit(
    method: Callable[Concatenate[Part, Params], Transaction[Result]],
) -> Callable[Concatenate[Part, Params], CoroutineType[Any, Any, Result]]:
    """Run the method's one statement, or several that each leave valid data, without a transaction around them."""
    return _as_coroutine(method, Autocommit)


def autocommit_nosync(
    method: Callable[Concatenate[Part, Params], Transaction[Result]],
) -> Callable[Concatenate[Part, Params], CoroutineType[Any, Any, Result]]:
    """Like `autocommit`, without waiting for the disk: for locks, counts and events, which matter little after a crash."""
    return _as_coroutine(method, partial(Autocommit, durable=False))


def _as_coroutine(
    method: Callable[Concatenate[Part, Params], Transaction[Result]],
    mode: Callable[[Callable[[], Transaction[Result]]], Callable[[], Transaction[Result]]],
) -> Callable[Concatenate[Part, Params], CoroutineType[Any, Any, Result]]:
    @wraps(method)
    def run(self: Part, /, *args: Params.args, **named: Params.kwargs) -> Coroutine[Any, Any, Result]:
        return self.run(mode(partial(method, self, *args, **named)))

    # mypy and pyright disagree on the type of a coroutine.
    typed: Callable[Concatenate[Part, Params], CoroutineType[Any, Any, Result]] = cast("Any", run)
    return typed


def rows_after(
    wanted: str, table: str, principal: str, after: str | None, order: Order
) -> Transaction[Sequence[Row] | None]:
    """A principal's rows in order of insertion, after the row with the id `after`; None if that row does not exist."""
    bound, parameters = "", [text(principal)]
    if after is not None:
        bound = f"and n {'>' if order == 'asc' else '<'} (select n from {table} where principal = $1 and id = $2)"
        parameters.append(text(after))
        # Deleted entries keep their rows for a while, so `after` may name one of them.
        known = yield f"select 1 from {table} where principal = $1 and id = $2", key_columns(Key(principal, after))
        if not known:
            return None
    rows = yield f"select {wanted} and principal = $1 {bound} order by n {order}", parameters
    return rows
