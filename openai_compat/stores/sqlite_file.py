"""A SQLite file, and the transactions that are committed to it together. All of this runs in one thread."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic

from ..aio.background import Failure
from ..aio.timers import WakeEvent
from ..errors import Unavailable
from .engine import ConditionFailed, Result, Row, Statement, Together, Transaction
from .schema import UnusableStore, refuse_foreign
from .sql_dialect import SQLITE

logger = logging.getLogger("openai_compat")

LOCK_WAIT = 0.25
"""Seconds for which SQLite itself waits for another process's transaction."""

MIN_VERSION = (3, 35, 0)
"""The first version with `returning`."""

FULL, NORMAL = "pragma synchronous = full", "pragma synchronous = normal"
"""With full, a commit waits for the disk; with normal, the next full one writes it. Neither can corrupt the file."""

# `unixepoch` came with SQLite 3.38, and its fractions of a second with 3.42.
NOW = "((julianday('now') - 2440587.5) * 86400.0)"

NOT_WRITTEN = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM})
"""Errors of a commit after which certainly nothing was written."""


@dataclass(slots=True, eq=False)
class Job(Generic[Result]):
    """A queued transaction, and the caller that waits for it in its own event loop.

    Attributes:
        durable: whether it has to survive a power failure.
        until: when its timeout for the lock is over (`time.monotonic`).
        woken: what its caller waits for.
        soon: calls something in the caller's event loop.
        begun: whether it is no longer queued.
        over: whether it has an outcome: `result`, after the commit; or `failure`, and then nothing was committed, unless
            the error says that nobody knows.
    """

    transaction: Callable[[], Transaction[Result]]
    durable: bool
    until: float
    woken: WakeEvent
    soon: Callable[[Callable[[], object]], object]
    begun: bool = False
    over: bool = False
    result: Any = None
    failure: Failure | None = None

    def fail(self, error: BaseException) -> None:
        """Set the error."""
        self.failure = Failure()
        self.failure.keep(error)
        self.over = True


class SqliteFile:
    """Opens the file when it is needed, and again after errors.

    A job waits for the file's lock until its timeout. Once the file was locked for that long, further jobs fail at the
    first attempt: a failed request also has to release what it took, and would wait twice.
    """

    def __init__(self, path: Path, patience: float) -> None:
        self._path = path
        self._patience = patience
        self._locked_since = 0.0
        self._looked = 0.0
        self._connection: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._durable: bool | None = None
        self._was_open = False

    def write(self, jobs: Sequence[Job[Any]]) -> Iterator[Sequence[Job[Any]]]:
        """Run jobs in one transaction, or, if one of them fails, in several. Yields jobs once they have an outcome."""
        while jobs:
            try:
                connection = self._begin(durable=any([job.durable for job in jobs]))
            except (sqlite3.Error, OSError, Unavailable) as error:
                waiting = self._not_begun(jobs, error)
                yield [job for job in jobs if job not in waiting]
                jobs = waiting
            else:
                yield from self._together(connection, jobs) if len(jobs) > 1 else self._alone(connection, jobs[0])
                return

    def close(self) -> None:
        """Close the file. The next job opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _begin(self, *, durable: bool) -> sqlite3.Connection:
        if self._connection is not None and self._inode != _inode(self._path):
            self.close()  # the file was replaced: writes to this one would be lost
        if self._connection is None:
            self._connection = self._open()
            self._inode = _inode(self._path)
            self._durable = None
        if self._durable is not durable:
            self._connection.execute(FULL if durable else NORMAL)  # possible outside of a transaction only
            self._durable = durable
        # Immediate: a transaction that first reads and then writes could fail when another process has written.
        self._connection.execute("begin immediate")
        self._looked = 0.0
        return self._connection

    def _open(self) -> sqlite3.Connection:
        """Open the file. Raises UnusableStore if it could never be opened, as in a folder that does not exist."""
        try:
            connection = _opened(self._path)
        except (OSError, sqlite3.OperationalError) as error:
            if self._was_open or not (isinstance(error, OSError) or _code(error) == sqlite3.SQLITE_CANTOPEN):
                raise
            reason = error.strerror if isinstance(error, OSError) else "it is no file that can be written to"
            raise UnusableStore(f"The store's file cannot be opened: {reason}.") from error
        self._was_open = True
        return connection

    def _not_begun(self, jobs: Sequence[Job[Any]], error: Exception) -> Sequence[Job[Any]]:
        """Fail the jobs that cannot wait any longer. Returns the others."""
        if _code(error) != sqlite3.SQLITE_BUSY:
            self.close()
            waiting: list[Job[Any]] = []
        else:
            time.sleep(0.001)  # SQLite may report "busy" without having waited
            waiting = (
                [] if self._locked_for() > self._patience else [job for job in jobs if time.monotonic() <= job.until]
            )
        failed = [job for job in jobs if job not in waiting]
        if failed:
            logger.warning("The store %s cannot be used: %s", self._path, error)
        for job in failed:
            job.fail(_public(error))
        return waiting

    def _locked_for(self) -> float:
        """Seconds for which every attempt, at least one a second, has found the file locked."""
        now = time.monotonic()
        if now - self._looked > 1.0:
            self._locked_since = now
        self._looked = now
        return now - self._locked_since

    def _alone(self, connection: sqlite3.Connection, job: Job[Any]) -> Iterator[Sequence[Job[Any]]]:
        code = "store_unavailable"
        try:
            result = _drive(connection, job.transaction)
            # From here on nobody knows: an error may come before or after the commit was written.
            code = "store_outcome_unknown"
            connection.execute("commit")
        except BaseException as error:  # also the transaction's own errors
            self._undo(connection, error)
            job.fail(_public(error, code))
        else:
            job.result, job.over = result, True
        yield [job]

    def _together(self, connection: sqlite3.Connection, jobs: Sequence[Job[Any]]) -> Iterator[Sequence[Job[Any]]]:
        """Commit all jobs together. One that fails is left out: it runs alone, between those before and after it."""
        # No savepoints: two more statements for each job, for what hardly ever happens.
        results: list[Any] = []
        try:
            for job in jobs:
                results.append(_drive(connection, job.transaction))  # noqa: PERF401  (how many there were is needed)
        except BaseException as error:  # also the transaction's own errors
            self._undo(connection, error)
            failed = len(results)
            yield from self._in_parts(jobs[:failed], jobs[failed : failed + 1], jobs[failed + 1 :])
            return
        try:
            connection.execute("commit")
        except sqlite3.Error as error:
            self._undo(connection, error)
            if _code(error) in NOT_WRITTEN:
                yield from self._in_parts(*[[job] for job in jobs])
                return
            for job in jobs:
                job.fail(_public(error, "store_outcome_unknown"))
        else:
            for job, result in zip(jobs, results, strict=True):
                job.result, job.over = result, True
        yield jobs

    def _in_parts(self, *parts: Sequence[Job[Any]]) -> Iterator[Sequence[Job[Any]]]:
        for jobs in parts:
            yield from self.write(jobs)

    def _undo(self, connection: sqlite3.Connection, error: BaseException) -> None:
        with suppress(sqlite3.Error):
            if connection.in_transaction:  # some errors have rolled back already
                connection.execute("rollback")
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.IntegrityError):
            logger.warning("The store %s failed: %s", self._path, error)
            self.close()


def _opened(path: Path) -> sqlite3.Connection:
    """Open the file. A new one is readable by its owner only; the database of another program is not changed."""
    if sqlite3.sqlite_version_info < MIN_VERSION:
        raise UnusableStore(f"The store needs SQLite 3.35; this Python has {sqlite3.sqlite_version}.")
    with suppress(FileExistsError):
        # With the usual umask, other users of the machine could read the conversations.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    # Without `isolation_level=None` the module begins transactions of its own. Statements are few and used again: parsing one
    # costs as much as running it.
    connection = sqlite3.connect(path, timeout=LOCK_WAIT, isolation_level=None, cached_statements=200)
    try:
        refuse_foreign({name for (name,) in connection.execute(SQLITE.tables)})
        (mode,) = connection.execute("pragma journal_mode = wal").fetchone()
        if mode != "wal":
            raise UnusableStore(
                "The store's file is where SQLite cannot have a write-ahead log, such as a network share."
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _inode(path: Path) -> int | None:
    try:
        return os.stat(path).st_ino  # noqa: PTH116  (before every write: pathlib takes three times as long)
    except FileNotFoundError:
        return None


@lru_cache(maxsize=500)
def _translated(statement: str) -> str:
    return statement.replace("{now}", NOW).replace("$", "?")


def _drive(connection: sqlite3.Connection, transaction: Callable[[], Transaction[Result]]) -> Result:
    with closing(transaction()) as steps:
        try:
            step = next(steps)
            while True:
                step = steps.send(
                    _together(connection, step) if isinstance(step, Together) else _rows(connection, step)
                )
        except StopIteration as stop:
            result: Result = stop.value
            return result


def _rows(connection: sqlite3.Connection, statement: Statement) -> Sequence[Row]:
    sql, parameters = statement
    return connection.execute(_translated(sql), parameters).fetchall()


def _together(connection: sqlite3.Connection, together: Together) -> Sequence[Row]:
    for statement in together.statements:
        if not _rows(connection, statement) and "returning" in statement[0]:
            raise ConditionFailed
    return ()


def _code(error: BaseException) -> int | None:
    """SQLite's primary code of an error (`SQLITE_BUSY` for `SQLITE_BUSY_SNAPSHOT`)."""
    code = getattr(error, "sqlite_errorcode", None)
    # The low byte is the kind of error; those above it tell which of the kind (SQLite's extended codes).
    return None if code is None else code & 0xFF


def _public(error: BaseException, code: str = "store_unavailable") -> BaseException:
    """The error for the caller: those of the database become Unavailable, those of the transaction stay."""
    # Never to be wiped or repaired: it may be somebody's file.
    if _code(error) == sqlite3.SQLITE_NOTADB:
        failed: Unavailable = UnusableStore("The store's file is no SQLite database.")
    elif isinstance(error, sqlite3.OperationalError | OSError) or type(error) is sqlite3.DatabaseError:
        code = "store_unavailable" if _code(error) in NOT_WRITTEN else code
        failed = Unavailable("The store cannot be used now. Try again shortly.", code=code)
    else:
        return error
    failed.__cause__ = error
    return failed
