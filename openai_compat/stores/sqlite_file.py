"""A SQLite file and the transactions that are written to it together. All of this happens in one thread."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

from ..errors import Unavailable
from .engine import Result, Row, Transaction
from .schema import UnusableStore, refuse_foreign
from .sql_dialect import SQLITE

logger = logging.getLogger("openai_compat")

LOCK_WAIT = 0.25
"""Seconds for which SQLite waits for another process's transaction before it tells."""

MIN_VERSION = (3, 35, 0)
"""The first version with `returning`."""

FULL, NORMAL = "pragma synchronous = full", "pragma synchronous = normal"
"""Each commit waits for the disk; or the next one that does takes it along. Neither can break the file."""

NOW = "((julianday('now') - 2440587.5) * 86400.0)"

NOT_WRITTEN = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM})
"""What a commit may fail with and surely has written nothing."""


class Job(Protocol):
    """A transaction that somebody waits for."""

    @property
    def transaction(self) -> Callable[[], Transaction[Any]]:
        """Its statements."""
        ...

    @property
    def durable(self) -> bool:
        """Whether it has to survive a power failure."""
        ...

    @property
    def late(self) -> bool:
        """Whether it has waited long enough for the lock."""
        ...

    def finish(self, result: Any) -> None:
        """It was written."""
        ...

    def fail(self, error: BaseException) -> None:
        """Nothing of it was written, unless the error says that this is not known."""
        ...


class SqliteFile:
    """Opens the file when it is needed, and again after errors.

    Jobs wait for the lock as long as they have patience. Once it was looked for that long in vain, later ones are told
    at the first look: a request that fails has to give back what it took, and would wait twice.
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

    def write(self, jobs: Sequence[Job]) -> None:
        """Run jobs in one transaction, or each in one if that fails. Every job is told what became of it."""
        while jobs:
            try:
                connection = self._begin(durable=any([job.durable for job in jobs]))
            except (sqlite3.Error, OSError, Unavailable) as error:
                jobs = self._not_begun(jobs, error)
            else:
                return self._together(connection, jobs) if len(jobs) > 1 else self._alone(connection, jobs[0])
        return None

    def close(self) -> None:
        """Close the file. The next job opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _begin(self, *, durable: bool) -> sqlite3.Connection:
        if self._connection is not None and self._inode != _inode(self._path):
            self.close()  # somebody has put another file there: what is written to this one would be lost
        if self._connection is None:
            self._connection = self._open()
            self._inode = _inode(self._path)
            self._durable = None
        if self._durable is not durable:
            self._connection.execute(FULL if durable else NORMAL)
            self._durable = durable
        self._connection.execute("begin immediate")
        self._looked = 0.0
        return self._connection

    def _open(self) -> sqlite3.Connection:
        """Open the file. Where it never could be opened, such as in a folder that is not there, it never will be."""
        try:
            connection = _opened(self._path)
        except (OSError, sqlite3.OperationalError) as error:
            if self._was_open or not (isinstance(error, OSError) or _code(error) == sqlite3.SQLITE_CANTOPEN):
                raise
            reason = error.strerror if isinstance(error, OSError) else "it is no file that can be written to"
            raise UnusableStore(f"The store's file cannot be opened: {reason}.") from error
        self._was_open = True
        return connection

    def _not_begun(self, jobs: Sequence[Job], error: Exception) -> Sequence[Job]:
        """Those of the jobs that still wait for the lock."""
        if _code(error) != sqlite3.SQLITE_BUSY:
            self.close()
            waiting: list[Job] = []
        else:
            time.sleep(0.001)  # not every "busy" has waited
            waiting = [] if self._locked_for() > self._patience else [job for job in jobs if not job.late]
        failed = [job for job in jobs if job not in waiting]
        if failed:
            logger.warning("The store %s cannot be used: %s", self._path, error)
        for job in failed:
            job.fail(_public(error))
        return waiting

    def _locked_for(self) -> float:
        """Seconds since when every look, one a second at least, has found it locked."""
        now = time.monotonic()
        if now - self._looked > 1.0:
            self._locked_since = now
        self._looked = now
        return now - self._locked_since

    def _alone(self, connection: sqlite3.Connection, job: Job) -> None:
        code = "store_unavailable"
        try:
            result = _drive(connection, job.transaction)
            code = "store_outcome_unknown"
            connection.execute("commit")
        except BaseException as error:  # whatever the transaction itself raises, too
            self._undo(connection, error)
            job.fail(_public(error, code))
        else:
            job.finish(result)

    def _together(self, connection: sqlite3.Connection, jobs: Sequence[Job]) -> None:
        """One write for all; those that raise something of their own are undone alone."""
        try:
            outcomes = [_in_savepoint(connection, job) for job in jobs]
        except sqlite3.Error as error:
            self._undo(connection, error)
            self._one_by_one(jobs)
            return
        try:
            connection.execute("commit")
        except sqlite3.Error as error:
            self._undo(connection, error)
            if _code(error) in NOT_WRITTEN:
                self._one_by_one(jobs)
                return
            outcomes = [partial(job.fail, _public(error, "store_outcome_unknown")) for job in jobs]
        for tell in outcomes:
            tell()

    def _one_by_one(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self.write([job])

    def _undo(self, connection: sqlite3.Connection, error: BaseException) -> None:
        with suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("rollback")
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.IntegrityError):
            logger.warning("The store %s failed: %s", self._path, error)
            self.close()


def _opened(path: Path) -> sqlite3.Connection:
    """Open the file, readable by its owner only if it is new. Nothing is changed in a file that is not ours."""
    if sqlite3.sqlite_version_info < MIN_VERSION:
        raise UnusableStore(f"The store needs SQLite 3.35; this Python has {sqlite3.sqlite_version}.")
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
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
        return os.stat(path).st_ino  # noqa: PTH116  (asked before every write: pathlib takes three times as long)
    except FileNotFoundError:
        return None


@lru_cache(maxsize=500)
def _translated(statement: str) -> str:
    return statement.replace("{now}", NOW).replace("$", "?")


def _drive(connection: sqlite3.Connection, transaction: Callable[[], Transaction[Result]]) -> Result:
    with closing(transaction()) as steps:
        try:
            statement, parameters = next(steps)
            while True:
                rows: Sequence[Row] = connection.execute(_translated(statement), parameters).fetchall()
                statement, parameters = steps.send(rows)
        except StopIteration as stop:
            result: Result = stop.value
            return result


def _in_savepoint(connection: sqlite3.Connection, job: Job) -> Callable[[], None]:
    """Run one of several jobs; the result tells it what became of it, once all are written."""
    connection.execute("savepoint job")
    try:
        outcome = partial(job.finish, _drive(connection, job.transaction))
    except sqlite3.OperationalError:
        raise
    except BaseException as error:
        connection.execute("rollback to job")
        outcome = partial(job.fail, _public(error))
    connection.execute("release job")
    return outcome


def _code(error: BaseException) -> int | None:
    """SQLite's code of an error, without what it adds to it (`SQLITE_BUSY_SNAPSHOT` is a `SQLITE_BUSY`)."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _public(error: BaseException, code: str = "store_unavailable") -> BaseException:
    """What the caller gets: errors of the database become Unavailable, those of the transaction stay."""
    if _code(error) == sqlite3.SQLITE_NOTADB:
        failed: Unavailable = UnusableStore("The store's file is no SQLite database.")
    elif isinstance(error, sqlite3.OperationalError | OSError) or type(error) is sqlite3.DatabaseError:
        code = "store_unavailable" if _code(error) in NOT_WRITTEN else code
        failed = Unavailable("The store cannot be used now. Try again shortly.", code=code)
    else:
        return error
    failed.__cause__ = error
    return failed
