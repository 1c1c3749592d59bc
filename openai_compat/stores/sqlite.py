"""The SQLite engine: one file, one thread, several transactions in one commit (group commit).

A durable commit waits for the disk. Transactions that arrive meanwhile queue up, and are then committed together. Several
processes can use the file; SQLite lets one of them write at a time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, Generic

import anyio
import anyio.lowlevel
import anyio.to_thread

from ..aio.background import Failure, threadsafe_scheduler
from ..aio.timers import WakeEvent, asyncio_loop, call_soon, new_wake_event
from ..errors import Unavailable
from .engine import Autocommit, ConditionFailed, Result, Row, Statement, StatementBatch, Transaction
from .schema import UnusableStore
from .sqlite_file import NOT_WRITTEN, code_of, open_database, to_store_error

logger = logging.getLogger("openai_compat")

PATIENCE = 3.0
"""Default timeout for a file that another process has locked, in seconds."""

STUCK = 10.0
"""Timeout for the outcome of a transaction, in seconds, if the disk hangs."""

MAX_BATCH = 64
"""Maximum number of transactions in one commit."""

FULL, NORMAL = "pragma synchronous = full", "pragma synchronous = normal"
"""With full, a commit waits for the disk; with normal, the next full commit writes it. Neither can corrupt the file."""

# `unixepoch` came with SQLite 3.38, and its fractions of a second with 3.42.
NOW = "((julianday('now') - 2440587.5) * 86400.0)"


@dataclass(slots=True, eq=False)
class Job(Generic[Result]):
    """A queued transaction, and the caller that waits for it in its own event loop.

    Attributes:
        durable: True if it must survive a power failure.
        until: the deadline for getting the lock (`time.monotonic`).
        woken: the event that its caller waits for.
        soon: schedules a callback in the caller's event loop.
        begun: True if it is no longer queued.
        over: True if it has an outcome: `result`, after the commit; or `failure`, and then nothing was committed, unless
            the error says that the outcome is unknown.
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
        """Set the outcome to `error`: nothing was committed, unless `error` says that the outcome is unknown."""
        self.failure = Failure()
        self.failure.keep(error)
        self.over = True


def _wake(jobs: Sequence[Job[Any]]) -> None:
    """Wake the callers of finished jobs, with one call into each event loop.

    Each call wakes the loop through a socket and releases the GIL. With one call per job, the thread would wait for the GIL
    each time, up to 5 ms if the loop is busy.
    """
    callers: dict[Callable[[Callable[[], object]], object], list[WakeEvent]] = {}
    for job in jobs:
        callers.setdefault(job.soon, []).append(job.woken)
    for soon, events in callers.items():
        with suppress(RuntimeError):  # the callers' event loop has ended, and the callers with it
            soon(partial(_set_all, events))


def _set_all(events: Sequence[WakeEvent]) -> None:
    for event in events:
        event.set()


class SqliteEngine:
    """Runs transactions on a SQLite file, which is created if it does not exist.

    `patience` is the timeout for a file that another process has locked, in seconds.
    """

    name = "sqlite"

    def __init__(self, path: str | os.PathLike[str], patience: float = PATIENCE) -> None:
        self._file = SqliteFile(Path(path).absolute(), patience)
        self._patience = patience
        self._queue: deque[Job[Any]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._gathering: object = None
        _register_fork_hooks()
        _engines.add(self)

    async def run(self, transaction: Callable[[], Transaction[Result]]) -> Result:
        """Run a transaction. If the caller is cancelled, the transaction runs to its end, or does not begin."""
        durable = True
        if isinstance(transaction, Autocommit):  # there are no round trips to save here
            durable, transaction = transaction.durable, transaction.transaction
        loop = asyncio_loop()
        woken = new_wake_event(loop)
        soon = threadsafe_scheduler() if loop is None else loop.call_soon_threadsafe
        job = Job(transaction, durable, time.monotonic() + self._patience, woken, soon)
        self._queue.append(job)
        gathering = loop or anyio.lowlevel.current_token()
        if self._gathering != gathering:  # else an earlier job has scheduled the wake-up
            self._gathering = gathering
            self._schedule_wake(loop, 0, 0)
        try:
            await woken.wait(woken.clock() + STUCK)
        finally:
            woken.close()
            with self._changed:
                if not job.begun:
                    self._queue.remove(job)
        if not job.over:
            code = "store_outcome_unknown" if job.begun else "store_unavailable"
            raise Unavailable("The store does not answer.", code=code)
        if job.failure is not None:
            job.failure.raise_if_any()
        result: Result = job.result
        return result

    def _schedule_wake(self, loop: asyncio.AbstractEventLoop | None, two_ago: int, one_ago: int) -> None:
        """Wake the thread once an iteration of the event loop adds no jobs. `two_ago` is the queue's length two iterations ago.

        Woken sooner, the thread would get a small batch, and then wait for the GIL while the loop is busy with the rest.
        """
        now = len(self._queue)
        if two_ago < now < MAX_BATCH:  # jobs queued later in this iteration are not counted yet
            call_soon(loop, lambda: self._schedule_wake(loop, one_ago, now))
            return
        self._gathering = None
        with suppress(RuntimeError):  # no thread can be started now: the callers time out after STUCK seconds
            self._wake_thread()

    def _wake_thread(self) -> None:
        with self._changed:
            if self._thread is None:
                self._closing = False
                # A daemon thread, so that an engine that nobody closes does not keep the process alive.
                self._thread = threading.Thread(target=self._run_thread, name="openai-compat sqlite", daemon=True)
                self._thread.start()
            self._changed.notify()

    async def aclose(self) -> None:
        """Run the queued jobs, close the file and end the thread. Further use opens the file again."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.stop)

    def stop(self) -> None:
        """The blocking form of `aclose`."""
        with self._changed:
            thread = self._thread
            self._closing = True
            self._changed.notify()
        if thread is not None:
            thread.join(STUCK)

    def before_fork(self) -> None:
        """Stop, and block restarts: an open SQLite file must not be carried into a forked process."""
        self.stop()
        self._changed.acquire()

    def after_fork(self) -> None:
        """Allow restarts again, in the parent and in the child."""
        self._changed.release()

    # in the thread

    def _run_thread(self) -> None:
        try:
            while self._write_next():
                pass
        except BaseException:
            self._thread = None  # the next job starts another thread
            raise

    def _write_next(self) -> bool:
        """Run the next jobs. False once the engine is closed."""
        # A separate function, so that no frame keeps the jobs alive while the thread waits for more.
        jobs = self._take_jobs()
        for answered in self._file.write(jobs):
            _wake(answered)
        return bool(jobs)

    def _take_jobs(self) -> list[Job[Any]]:
        """The jobs of the next commit; if the engine is closing and there are none, close the file and return an empty list."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            jobs = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]
            for job in jobs:
                job.begun = True
            if not jobs:
                self._file.close()
                self._thread = None
            return jobs


_engines: weakref.WeakSet[SqliteEngine] = weakref.WeakSet()


@cache
def _register_fork_hooks() -> None:
    if not hasattr(os, "register_at_fork"):  # Windows
        return
    os.register_at_fork(
        before=lambda: _call_each_engine(SqliteEngine.before_fork),
        after_in_parent=lambda: _call_each_engine(SqliteEngine.after_fork),
        after_in_child=lambda: _call_each_engine(SqliteEngine.after_fork),
    )


def _call_each_engine(method: Callable[[SqliteEngine], None]) -> None:
    for engine in list(_engines):
        method(engine)


# in the engine's thread


class SqliteFile:
    """Opens the file on first use, and again after errors.

    A job waits for the file's lock until its timeout. Once the file was locked for that long, further jobs fail at the first
    attempt: a failed request must also release what it holds, and would otherwise wait twice.
    """

    def __init__(self, path: Path, patience: float) -> None:
        self._path = path
        self._patience = patience
        self._locked_since = 0.0
        self._last_attempt = 0.0
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
                waiting = self._fail_overdue(jobs, error)
                yield [job for job in jobs if job not in waiting]
                jobs = waiting
            else:
                yield from (
                    self._run_together(connection, jobs) if len(jobs) > 1 else self._run_alone(connection, jobs[0])
                )
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
            self._connection.execute(FULL if durable else NORMAL)  # only possible outside of a transaction
            self._durable = durable
        # Immediate: a transaction that reads first and writes later could fail if another process has written in between.
        self._connection.execute("begin immediate")
        self._last_attempt = 0.0
        return self._connection

    def _open(self) -> sqlite3.Connection:
        """Open the file. Raises UnusableStore if it can never be opened, for example because its folder does not exist."""
        try:
            connection = open_database(self._path)
        except (OSError, sqlite3.OperationalError) as error:
            if self._was_open or not (isinstance(error, OSError) or code_of(error) == sqlite3.SQLITE_CANTOPEN):
                raise
            reason = error.strerror if isinstance(error, OSError) else "it is no file that can be written to"
            raise UnusableStore(f"The store's file cannot be opened: {reason}.") from error
        self._was_open = True
        return connection

    def _fail_overdue(self, jobs: Sequence[Job[Any]], error: Exception) -> Sequence[Job[Any]]:
        """Fail the jobs that cannot wait any longer, and return the others."""
        if code_of(error) != sqlite3.SQLITE_BUSY:
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
            job.fail(to_store_error(error))
        return waiting

    def _locked_for(self) -> float:
        """Seconds for which every attempt, at least one a second, has found the file locked."""
        now = time.monotonic()
        if now - self._last_attempt > 1.0:
            self._locked_since = now
        self._last_attempt = now
        return now - self._locked_since

    def _run_alone(self, connection: sqlite3.Connection, job: Job[Any]) -> Iterator[Sequence[Job[Any]]]:
        code = "store_unavailable"
        try:
            result = _run_transaction(connection, job.transaction)
            # From here on the outcome is in doubt: an error may come before or after the commit was written.
            code = "store_outcome_unknown"
            connection.execute("commit")
        except BaseException as error:  # also the transaction's own errors
            self._roll_back(connection, error)
            job.fail(to_store_error(error, code))
        else:
            job.result, job.over = result, True
        yield [job]

    def _run_together(self, connection: sqlite3.Connection, jobs: Sequence[Job[Any]]) -> Iterator[Sequence[Job[Any]]]:
        """Commit all jobs together. A job that fails is left out: it runs alone, between those before and after it."""
        # No savepoints: they would add two statements to each job, for a rare case.
        results: list[Any] = []
        try:
            for job in jobs:
                results.append(_run_transaction(connection, job.transaction))  # noqa: PERF401  (the number of results is needed)
        except BaseException as error:  # also the transaction's own errors
            self._roll_back(connection, error)
            failed = len(results)
            yield from self._run_in_parts(jobs[:failed], jobs[failed : failed + 1], jobs[failed + 1 :])
            return
        try:
            connection.execute("commit")
        except sqlite3.Error as error:
            self._roll_back(connection, error)
            if code_of(error) in NOT_WRITTEN:
                yield from self._run_in_parts(*[[job] for job in jobs])
                return
            for job in jobs:
                job.fail(to_store_error(error, "store_outcome_unknown"))
        else:
            for job, result in zip(jobs, results, strict=True):
                job.result, job.over = result, True
        yield jobs

    def _run_in_parts(self, *parts: Sequence[Job[Any]]) -> Iterator[Sequence[Job[Any]]]:
        for jobs in parts:
            yield from self.write(jobs)

    def _roll_back(self, connection: sqlite3.Connection, error: BaseException) -> None:
        with suppress(sqlite3.Error):
            if connection.in_transaction:  # some errors roll back automatically
                connection.execute("rollback")
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.IntegrityError):
            logger.warning("The store %s failed: %s", self._path, error)
            self.close()


def _inode(path: Path) -> int | None:
    try:
        return os.stat(path).st_ino  # noqa: PTH116  (before every write: pathlib takes three times as long)
    except FileNotFoundError:
        return None


@lru_cache(maxsize=500)
def _translate(statement: str) -> str:
    return statement.replace("{now}", NOW).replace("$", "?")


def _run_transaction(connection: sqlite3.Connection, transaction: Callable[[], Transaction[Result]]) -> Result:
    with closing(transaction()) as steps:
        try:
            step = next(steps)
            while True:
                step = steps.send(
                    _execute_together(connection, step)
                    if isinstance(step, StatementBatch)
                    else _execute(connection, step)
                )
        except StopIteration as stop:
            result: Result = stop.value
            return result


def _execute(connection: sqlite3.Connection, statement: Statement) -> Sequence[Row]:
    sql, parameters = statement
    return connection.execute(_translate(sql), parameters).fetchall()


def _execute_together(connection: sqlite3.Connection, batch: StatementBatch) -> Sequence[Row]:
    for statement in batch.statements:
        if not _execute(connection, statement) and "returning" in statement[0]:
            raise ConditionFailed
    return ()
