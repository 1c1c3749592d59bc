"""What has become of a transaction that PostgreSQL, or the way to it, did not let through.

Either it was certainly not done, or nobody knows: the connection ended while the statement that commits was under way.
"""

from __future__ import annotations

from typing import Any, cast

from asyncpg import (  # type: ignore[import-untyped]
    ConnectionDoesNotExistError,
    InterfaceError,
    InternalClientError,
    PostgresError,
)

from ..errors import Unavailable

RETRY_AFTER = 2.0
"""Seconds after which a client may try again."""

IN_THE_WAY = ("40001", "40P01", "0A000")
"""Serialization failure, deadlock, and a statement that was prepared for an older schema."""

UNUSABLE = ("08", "25006", "25P", "28", "3D", "3F000", "42501", "42P01", "53", "55P03", "57", "58", "F0", "XX")
"""What begins thus is not about the statement: connections, a read-only standby, rights, databases and tables that are
not there, memory, disks and their limits, somebody's intervention, faults of the system."""

NOT_EVEN_THEN = ("08", "40003", "57P02", "58", "XX")
"""Of an error that begins thus it cannot be said that nothing was done: a crash, or a pooler that lost the server."""


class RetryTransaction(Exception):
    """Nothing was done; begun again, it may work."""


def unavailable() -> Unavailable:
    """Nothing was done."""
    return Unavailable("The store cannot be used now.", code="store_unavailable", retry_after=RETRY_AFTER)


def unknown() -> Unavailable:
    """It was done, or it was not."""
    text = "The store did not say whether it has done this."
    return Unavailable(text, code="store_outcome_unknown", retry_after=RETRY_AFTER)


def failure(error: Exception, *, in_doubt: bool) -> Exception | None:
    """What to raise instead of `error`; None for errors that are somebody's mistake.

    Args:
        error: what a statement, or connecting, has raised.
        in_doubt: the statement was one that commits.
    """
    answer = answered(error)
    if answer is not None:
        return _answered(answer, in_doubt, gone=answer is not error)
    if not silent(error):
        return None
    if in_doubt:
        return unknown()
    return unavailable() if isinstance(error, TimeoutError) else RetryTransaction()


def _answered(answer: Any, in_doubt: bool, gone: bool) -> Exception | None:
    state: str = answer.sqlstate or ""
    if in_doubt and (state.startswith(NOT_EVEN_THEN) or answer.severity_en == "PANIC"):
        return unknown()
    if gone or state in IN_THE_WAY:
        return RetryTransaction()
    return unavailable() if state.startswith(UNUSABLE) else None


def answered(error: Exception) -> Any:
    """The server's own word, which may have been its last on this connection; None if it did not say anything."""
    if isinstance(error, ConnectionDoesNotExistError):
        return error.__cause__ if isinstance(error.__cause__, PostgresError) else None
    return cast("Any", error) if isinstance(error, PostgresError) else None


def silent(error: Exception) -> bool:
    """The server, or the way to it, has gone or does not answer."""
    if isinstance(error, InterfaceError):  # also of the driver's complaints about parameters, which are ValueErrors
        return not isinstance(error, ValueError)
    return isinstance(error, OSError | EOFError | ConnectionDoesNotExistError | InternalClientError)
