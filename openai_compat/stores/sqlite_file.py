"""Opens a SQLite file, and maps its errors to errors of the store."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from ..errors import Unavailable
from .schema import UnusableStore, refuse_foreign
from .sql_dialect import SQLITE

LOCK_WAIT = 0.25
"""Seconds for which SQLite itself waits for another process's transaction."""

MIN_VERSION = (3, 35, 0)
"""The first version with `returning`."""

NOT_WRITTEN = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM})
"""Errors of a commit after which nothing was written, for certain."""


def open_database(path: Path) -> sqlite3.Connection:
    """Open the file. A new one is readable by its owner only; the database of another program is not changed."""
    if sqlite3.sqlite_version_info < MIN_VERSION:
        raise UnusableStore(f"The store needs SQLite 3.35; this Python has {sqlite3.sqlite_version}.")
    with suppress(FileExistsError):
        # With the usual umask, other users of the machine could read the conversations.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    # Without `isolation_level=None` the module begins transactions on its own. Statements are few and reused: parsing one
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


def code_of(error: BaseException) -> int | None:
    """SQLite's primary code of an error (`SQLITE_BUSY` for `SQLITE_BUSY_SNAPSHOT`)."""
    code = getattr(error, "sqlite_errorcode", None)
    # The low byte is the kind of error; the higher bytes specify it (SQLite's extended codes).
    return None if code is None else code & 0xFF


def to_store_error(error: BaseException, code: str = "store_unavailable") -> BaseException:
    """The error for the caller: database errors become Unavailable, the transaction's own errors stay."""
    # Never wiped or repaired: it may be somebody's file.
    if code_of(error) == sqlite3.SQLITE_NOTADB:
        failed: Unavailable = UnusableStore("The store's file is no SQLite database.")
    elif isinstance(error, sqlite3.OperationalError | OSError) or type(error) is sqlite3.DatabaseError:
        code = "store_unavailable" if code_of(error) in NOT_WRITTEN else code
        failed = Unavailable("The store cannot be used now. Try again shortly.", code=code)
    else:
        return error
    failed.__cause__ = error
    return failed
