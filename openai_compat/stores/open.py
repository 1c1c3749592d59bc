"""Stores by URL, as settings and the command line name them."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from .memory import MemoryStore
from .port import Store

URL_FORMS = "memory:, sqlite:///relative/path, sqlite:////absolute/path or postgresql://user@host/database"


def open_store(url: str) -> Store:
    """Return the store of a URL. It connects on first use.

    Raises ValueError for an unsupported URL, ImportError if the engine's driver is not installed.
    """
    scheme = url.partition(":")[0]
    if url == "memory:":
        return MemoryStore()
    if scheme == "sqlite":
        return _open_sqlite(url)
    if scheme in ("postgresql", "postgres"):
        return _open_postgresql(url)
    # Truncated: without a colon, the scheme is the whole text.
    raise ValueError(f"A store's URL is {URL_FORMS}; not one with the scheme {scheme[:40]!r}.")


def _open_sqlite(url: str) -> Store:
    from .sql import SqlStore  # noqa: PLC0415  (engines are imported when they are needed)
    from .sqlite import SqliteEngine  # noqa: PLC0415

    return SqlStore(SqliteEngine(sqlite_path(url)))


def sqlite_path(url: str) -> str:
    """The path in the URL of a SQLite store. Raises ValueError."""
    parts = urlsplit(url)
    # As in SQLAlchemy: the third slash ends the empty host, a fourth begins the path.
    path = unquote(parts.path)[1:]
    if parts.netloc or parts.query or parts.fragment or not path:
        raise ValueError("The URL of a SQLite store is sqlite:///relative/path or sqlite:////absolute/path.")
    return path


def _open_postgresql(url: str) -> Store:
    from .postgres import PostgresEngine  # noqa: PLC0415
    from .sql import SqlStore  # noqa: PLC0415

    return SqlStore(PostgresEngine(url))
