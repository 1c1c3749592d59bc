"""The PostgreSQL engine, on asyncpg.

Nothing depends on the session: no LISTEN, no session locks, no settings that outlive a transaction. So it works behind
a pooler that gives each transaction another connection, such as pgbouncer.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, cast
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

import anyio

try:
    import asyncpg  # type: ignore[import-untyped]  # it comes without types
except ImportError as error:
    raise ImportError("PostgreSQL needs asyncpg: pip install 'openai-compat[postgres]'") from error

from .engine import Autocommit, ConditionFailed, Result, Row, Statement, StatementBatch, Transaction
from .postgres_failures import RetryTransaction, is_connection_lost, to_store_error, unavailable_error
from .postgres_pool import CLOSE_TIMEOUT, Pool, PoolConnection

_CONNECT: Callable[..., Awaitable[Any]] = cast("Any", asyncpg).connect
_TOO_MANY_CONNECTIONS: type[Exception] = asyncpg.TooManyConnectionsError

# The database's clock: the clocks of several hosts differ.
NOW = "cast(extract(epoch from statement_timestamp()) as double precision)"

ATTEMPTS = 4
"""Maximum number of attempts at a transaction: it may conflict with others, or find its connection closed."""

MAX_NUMBER = 10_000
"""Upper bound of the numbers in a URL: larger ones are mistakes."""

SCHEMA_TIMEOUT = 600.0
"""Timeout of statements that change the schema, in seconds: they may have to rewrite a table."""


@dataclass(frozen=True, slots=True)
class Options:
    """The store's own options in the URL, and the rest of the URL, which asyncpg parses.

    Attributes:
        dsn: the URL for asyncpg.
        pool_size: maximum number of connections of each event loop; a process usually has one loop.
        timeout: timeout for getting a connection, and for each statement, in seconds.
        statement_cache_size: prepared statements of each connection; 0 for poolers that do not support them.
    """

    dsn: str
    pool_size: int = 10
    timeout: float = 4.0
    statement_cache_size: int = 100

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Parse a URL. Raises ValueError, whose message does not quote the URL, since it contains a password."""
        parts = urlsplit(url)
        if parts.scheme not in ("postgresql", "postgres") or not _has_port(parts):
            raise ValueError("The URL of a PostgreSQL store is postgresql://user:password@host:port/database.")
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        ours = {
            name: _parse_number(name, given.pop(name), kind) for name, kind in _OPTION_TYPES.items() if name in given
        }
        given.setdefault("application_name", "openai-compat")
        return cls(parts._replace(query=urlencode(given)).geturl(), **ours)


_OPTION_TYPES: dict[str, Callable[[str], Any]] = {"pool_size": int, "timeout": float, "statement_cache_size": int}


def _has_port(parts: SplitResult) -> bool:
    """True unless the port is something other than a number."""
    # A port that is no number is often the rest of a password with a slash in it.
    hosts = parts.netloc.rpartition("@")[2].split(",")
    ports = [host.rpartition("]")[2].rpartition(":")[2] for host in hosts if ":" in host.rpartition("]")[2]]
    return all([port.isascii() and port.isdigit() for port in ports if port])


def _parse_number(name: str, value: str, kind: Callable[[str], Any]) -> Any:
    with suppress(ValueError):
        number = kind(value)
        if 0 < number < MAX_NUMBER or (number == 0 and name == "statement_cache_size"):
            return number
    raise ValueError(f"{name} in the store's URL has to be a number above zero, and not over {MAX_NUMBER}.")


class PostgresEngine:
    """Runs transactions on PostgreSQL; on asyncio only.

    Each event loop has its own connections, which are opened on demand and closed when the loop ends.

    Args:
        url: `postgresql://user:password@host:port/database`; may set `pool_size`, `timeout` and
            `statement_cache_size` (see Options), and asyncpg's own options, such as `sslmode`.

    Raises ValueError for an invalid URL.
    """

    name = "postgresql"

    def __init__(self, url: str) -> None:
        self._options = Options.from_url(url)
        # An asyncpg connection belongs to the event loop that opened it, and under WSGI or in tests there are several loops.
        self._pools: dict[asyncio.AbstractEventLoop, Pool] = {}

    async def run(self, transaction: Callable[[], Transaction[Result]]) -> Result:
        """Run a transaction, to its end even if the caller is cancelled."""
        return await _run_to_end(self._run_with_retries(self._current_pool(), transaction))

    async def aclose(self) -> None:
        """Close all connections; those of other event loops in the background."""
        loop = asyncio.get_running_loop()
        mine = self._pools.pop(loop, None)
        for other in list(self._pools):
            with suppress(RuntimeError):  # the loop has ended, and its pool with it
                other.call_soon_threadsafe(self._pools.pop(other).close_soon)
        if mine is not None:
            await mine.close()

    def _current_pool(self) -> Pool:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError("PostgreSQL works on asyncio only: its driver, asyncpg, does not know trio.") from None
        if loop not in self._pools:
            # An event loop that ended without `aclose` leaves its pool behind.
            for ended in [other for other in list(self._pools) if other.is_closed()]:
                del self._pools[ended]
            options = self._options
            self._pools[loop] = Pool(self._connect, options.pool_size, options.timeout, _TOO_MANY_CONNECTIONS)
        return self._pools[loop]

    async def _connect(self) -> PoolConnection:
        connection: PoolConnection = await _CONNECT(
            self._options.dsn,
            timeout=self._options.timeout,
            statement_cache_size=self._options.statement_cache_size,
        )
        return connection

    async def _run_with_retries(self, pool: Pool, transaction: Callable[[], Transaction[Result]]) -> Result:
        # A retry is safe, since a transaction changes nothing but the database.
        for _ in range(ATTEMPTS - 1):
            with suppress(RetryTransaction):
                return await self._attempt(pool, transaction)
        try:
            return await self._attempt(pool, transaction)
        except RetryTransaction as error:
            raise unavailable_error() from error.__cause__

    async def _attempt(self, pool: Pool, transaction: Callable[[], Transaction[Result]]) -> Result:
        # An Autocommit has no begin and commit: each of its statements commits on its own.
        work = _Transaction(await _acquire(pool), self._options.timeout, isinstance(transaction, Autocommit))
        try:
            result = await work.run(transaction())
        except Exception as error:
            await _return_connection(pool, work, error)
            instead = to_store_error(error, in_doubt=work.in_doubt)
            if instead is None:
                raise
            raise instead from error
        except asyncio.CancelledError:  # the event loop ends
            await pool.discard(work.connection)
            raise
        except BaseException:  # such as KeyboardInterrupt: nothing can be awaited from here on
            pool.abort(work.connection)
            raise
        await pool.release(work.connection)
        return result


class _Transaction:
    """A transaction on a connection. `in_doubt` is True during a statement that commits."""

    def __init__(self, connection: PoolConnection, limit: float, autocommit: bool) -> None:
        self.connection = connection
        self.in_doubt = False
        self._limit = limit
        self._autocommit = autocommit
        self._begun = False

    async def run(self, statements: Transaction[Result]) -> Result:
        """Run all statements and commit. Return the generator's result."""
        with closing(statements):
            try:
                step = next(statements)
                while True:
                    step = statements.send(await self._execute(step))
            except StopIteration as end:
                result: Result = end.value
        if self._begun:
            self.in_doubt = True
            await self.connection.execute("commit", timeout=self._limit)
        return result

    async def _execute(self, step: Statement | StatementBatch) -> Sequence[Row]:
        sql, parameters = merge_statements(step) if isinstance(step, StatementBatch) else step
        statement = _prepare(sql)
        if not (self._begun or self._autocommit or statement.reads):
            await self.connection.execute("begin", timeout=self._limit)
            self._begun = True
        # Outside of a transaction, a statement that writes commits on its own.
        self.in_doubt = not (self._begun or statement.reads)
        try:
            rows = await self.connection.fetch(statement.sql, *parameters, timeout=statement.limit or self._limit)
        except asyncpg.DivisionByZeroError as error:
            if isinstance(step, StatementBatch):
                raise ConditionFailed from error
            raise
        self.in_doubt = False
        return rows

    async def roll_back(self) -> None:
        """Roll back, if the transaction has begun."""
        if self._begun:
            await self.connection.execute("rollback", timeout=CLOSE_TIMEOUT)


def merge_statements(batch: StatementBatch) -> Statement:
    """One statement that executes all of the batch's statements, or, if an error occurs, none."""
    parameters = [parameter for _, own in batch.statements for parameter in own]
    return _merged_sql(tuple([(sql, len(own)) for sql, own in batch.statements])), parameters


@functools.lru_cache(maxsize=1000)
def _merged_sql(statements: Sequence[tuple[str, int]]) -> str:
    parts: list[str] = []
    conditions = ["1"]
    before = 0
    for number, (sql, count) in enumerate(statements):
        parts.append(f"part{number} as ({_renumber_parameters(sql, before)})")
        if "returning" in sql:
            # Only an error undoes the other parts. Nothing else here can raise a division by zero.
            conditions.append(f"1 / (select count(*) from part{number})")  # noqa: S608  (a number)
        before += count
    return f"with {', '.join(parts)} select {', '.join(conditions)}"


_PARAMETER = re.compile(r"\$(\d+)")


def _renumber_parameters(sql: str, before: int) -> str:
    """A statement whose parameters are renumbered to follow `before` others."""
    return _PARAMETER.sub(lambda found: f"${int(found[1]) + before}", sql)


_WORD = re.compile(r"\w+")
_WRITING = frozenset(["insert", "update", "delete"])


class _PreparedStatement(NamedTuple):
    sql: str
    reads: bool
    limit: float | None


@functools.lru_cache(maxsize=1000)
def _prepare(sql: str) -> _PreparedStatement:
    """Prepare a statement for PostgreSQL; `reads` is True if it only reads, and can run before `begin`."""
    words = _WORD.findall(sql.casefold())
    # A lock taken before `begin` would be released when its statement ends. A statement that only reads is never in doubt.
    reads = words[0] in ("select", "with") and _WRITING.isdisjoint(words) and not words[1].startswith("pg_advisory")
    return _PreparedStatement(
        sql.replace("{now}", NOW), reads, SCHEMA_TIMEOUT if words[0] in ("create", "alter", "drop") else None
    )


async def _acquire(pool: Pool) -> PoolConnection:
    try:
        return await pool.acquire()
    except Exception as error:
        if to_store_error(error, in_doubt=False) is None:
            raise
        raise unavailable_error() from error


async def _return_connection(pool: Pool, work: _Transaction, error: Exception) -> None:
    """Roll back, and return the connection to the pool if it can be reused."""
    if is_connection_lost(error) or work.connection.is_closed():
        pool.invalidate_idle()
        await pool.discard(work.connection)
        return
    try:
        await work.roll_back()
    except Exception:
        await pool.discard(work.connection)
    else:
        await pool.release(work.connection)


async def _run_to_end(work: Coroutine[Any, Any, Result]) -> Result:
    """Wait for `work` to end even if the caller is cancelled, then raise the cancellation.

    An interrupted statement would leave its answer on the connection, where the next statement would read it.
    """
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        with suppress(BaseException):
            task.exception()  # retrieved, so that asyncio does not log it
        try:
            raise cancelled
        finally:
            del cancelled  # its traceback refers to this frame: a cycle
    return task.result()
