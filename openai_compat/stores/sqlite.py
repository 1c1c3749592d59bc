"""The SQLite engine: one file, one thread, several transactions in one commit (group commit).

A durable commit waits for the disk. Transactions that come meanwhile queue up, and are then committed together. Several
processes can use the file; SQLite lets one of them write at a time.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread

from ..aio.timers import WakeEvent, asyncio_loop, call_soon, new_wake_event
from ..aio.worker_thread import from_threads
from ..errors import Unavailable
from .engine import Autocommit, Result, Transaction
from .sqlite_file import Job, SqliteFile

PATIENCE = 3.0
"""Default timeout for a file that another process has locked, in seconds."""

STUCK = 10.0
"""Timeout for the outcome of a transaction, in seconds, if the disk hangs."""

MAX_TOGETHER = 64
"""Most transactions in one commit."""


def _wake(jobs: Sequence[Job[Any]]) -> None:
    """Wake the callers of jobs that are over, with one call into each event loop.

    A call wakes the loop through a socket, and lets go of the interpreter's lock: the thread would then wait for that,
    up to 5 ms where the loop is busy, once for each job.
    """
    callers: dict[Callable[[Callable[[], object]], object], list[WakeEvent]] = {}
    for job in jobs:
        callers.setdefault(job.soon, []).append(job.woken)
    for soon, events in callers.items():
        with suppress(RuntimeError):  # the callers' event loop has ended, and they with it
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
        _care_for_forks()
        _engines.add(self)

    async def run(self, transaction: Callable[[], Transaction[Result]]) -> Result:
        """Run a transaction. If the caller is cancelled, it runs to its end, or does not begin."""
        durable = True
        if isinstance(transaction, Autocommit):  # no round trips are to be saved here
            durable, transaction = transaction.durable, transaction.transaction
        loop = asyncio_loop()
        woken = new_wake_event(loop)
        soon = from_threads() if loop is None else loop.call_soon_threadsafe
        job = Job(transaction, durable, time.monotonic() + self._patience, woken, soon)
        self._queue.append(job)
        gathering = loop or anyio.lowlevel.current_token()
        if self._gathering != gathering:  # else the job before this one sees to it for all
            self._gathering = gathering
            self._gather(loop, 0, 0)
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

    def _gather(self, loop: asyncio.AbstractEventLoop | None, two_ago: int, one_ago: int) -> None:
        """Wake the thread once the event loop's turns bring no further jobs; `two_ago` there were so many.

        Sooner, the thread would have a small batch, and wait for the interpreter as long as the loop is busy with the rest.
        """
        now = len(self._queue)
        if two_ago < now < MAX_TOGETHER:  # of one turn, those come after this call that came after it
            call_soon(loop, lambda: self._gather(loop, one_ago, now))
            return
        self._gathering = None
        with suppress(RuntimeError):  # no thread can be started now: those who wait are told when STUCK is over
            self._wake_thread()

    def _wake_thread(self) -> None:
        with self._changed:
            if self._thread is None:
                self._closing = False
                # A daemon, so that an engine that nobody closes does not keep the process alive.
                self._thread = threading.Thread(target=self._work, name="openai-compat sqlite", daemon=True)
                self._thread.start()
            self._changed.notify()

    async def aclose(self) -> None:
        """Run what is queued, close the file and end the thread. Further use opens the file again."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.stop)

    def stop(self) -> None:
        """What `aclose` does, for callers that may block."""
        with self._changed:
            thread = self._thread
            self._closing = True
            self._changed.notify()
        if thread is not None:
            thread.join(STUCK)

    def before_fork(self) -> None:
        """Stop, and block other starts: an open SQLite file must not be carried into a forked process."""
        self.stop()
        self._changed.acquire()

    def after_fork(self) -> None:
        """Go on, in the parent and in the child."""
        self._changed.release()

    # in the thread

    def _work(self) -> None:
        try:
            while self._write_next():
                pass
        except BaseException:
            self._thread = None  # the next job starts another
            raise

    def _write_next(self) -> bool:
        """Run the next jobs. False at the end."""
        # A function of its own, so that no frame keeps the jobs alive while the thread waits for others.
        jobs = self._next()
        for answered in self._file.write(jobs):
            _wake(answered)
        return bool(jobs)

    def _next(self) -> list[Job[Any]]:
        """The jobs of the next commit; none, with the file closed, at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            jobs = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_TOGETHER))]
            for job in jobs:
                job.begun = True
            if not jobs:
                self._file.close()
                self._thread = None
            return jobs


_engines: weakref.WeakSet[SqliteEngine] = weakref.WeakSet()


@cache
def _care_for_forks() -> None:
    if not hasattr(os, "register_at_fork"):  # Windows
        return
    os.register_at_fork(
        before=lambda: _each(SqliteEngine.before_fork),
        after_in_parent=lambda: _each(SqliteEngine.after_fork),
        after_in_child=lambda: _each(SqliteEngine.after_fork),
    )


def _each(method: Callable[[SqliteEngine], None]) -> None:
    for engine in list(_engines):
        method(engine)
