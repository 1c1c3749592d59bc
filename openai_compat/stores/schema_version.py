"""Reads the schema version of a store without changing the store, for `openai-compat doctor`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from .engine import Transaction
from .open import open_store, sqlite_path
from .schema import MIGRATIONS, VERSION_TABLE, UnusableStore, refuse_foreign
from .sql_dialect import POSTGRESQL, SQLITE, Dialect

NEWEST = len(MIGRATIONS)
"""The version of the schema that this version of the library writes."""


async def schema_version(url: str) -> int | None:
    """The version of a database's schema; None if the database has no schema yet, or the file does not exist.

    Raises ValueError for an unsupported URL, ImportError if the engine's driver is not installed, Unavailable if the database
    does not answer, and UnusableStore for the database of another program and for a path where no file can be created.
    """
    if url.partition(":")[0] == "sqlite":
        return _file_version(Path(sqlite_path(url)))
    if url.partition(":")[0] not in ("postgresql", "postgres"):
        open_store(url)  # raises if the URL is invalid
        return None
    from .postgres import PostgresEngine  # noqa: PLC0415  (its driver is optional)

    engine = PostgresEngine(url)
    try:
        return await engine.run(lambda: _read_version(POSTGRESQL))
    finally:
        await engine.aclose()


def _file_version(path: Path) -> int | None:
    if not path.exists():
        if not path.absolute().parent.is_dir():
            raise UnusableStore(f"The store's file cannot be opened: there is no folder {path.absolute().parent}.")
        return None
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            steps = _read_version(SQLITE)
            rows: Sequence[Sequence[object]] | None = None
            while True:
                statement = steps.send(rows) if rows is not None else next(steps)
                rows = connection.execute(*statement).fetchall() if isinstance(statement, tuple) else ()
    except StopIteration as end:
        found: int | None = end.value
        return found
    except sqlite3.Error as error:
        raise UnusableStore("The store's file cannot be read: it is no database, or not ours to read.") from error


def _read_version(dialect: Dialect) -> Transaction[int | None]:
    rows = yield dialect.tables, ()
    tables = {str(row[0]) for row in rows}
    if VERSION_TABLE not in tables:
        if dialect.own_database:
            refuse_foreign(tables)
        return None
    rows = yield f"select version from {VERSION_TABLE}", ()
    return int(rows[0][0])
