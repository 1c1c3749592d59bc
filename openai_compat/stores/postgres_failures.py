"""Maps errors of PostgreSQL, and of the connection to it, to errors of the store.

A failed transaction was either certainly not committed, or its outcome is unknown because the connection ended during the
statement that commits.
"""

from __future__ import annotations

from typing import Any, cast

from asyncpg import (  # type: ignore[import-untyped]  # it comes without types
    ConnectionDoesNotExistError,
    InterfaceError,
    InternalClientError,
    PostgresError,
)

from ..errors import Unavailable

RETRY_AFTER = 2.0
"""Seconds after which a client may retry."""

RETRYABLE = ("40001", "40P01", "0A000")
"""Serialization failure, deadlock, and a statement that was prepared for an older schema."""

UNUSABLE = ("08", "25006", "25P", "28", "3D", "3F000", "42501", "42P01", "53", "55P03", "57", "58", "F0", "XX")
"""Prefixes of error codes that no statement causes: connections, a read-only standby, permissions, missing databases
and tables, memory, disks and limits, an administrator's intervention, internal errors."""

OUTCOME_UNKNOWN = ("08", "40003", "57P02", "58", "XX")
"""Prefixes of error codes after which a commit may have happened: a crash, or a pooler that has lost the server."""


class RetryTransaction(Exception):
    """Nothing was committed, and a retry may succeed."""


def unavailable_error() -> Unavailable:
    """The error to raise if nothing was committed."""
    return Unavailable("The store cannot be used now.", code="store_unavailable", retry_after=RETRY_AFTER)


def unknown_outcome_error() -> Unavailable:
    """The error to raise if the outcome is unknown."""
    text = "The store did not say whether it has done this."
    return Unavailable(text, code="store_outcome_unknown", retry_after=RETRY_AFTER)


def to_store_error(error: Exception, *, in_doubt: bool) -> Exception | None:
    """The error to raise instead of `error`; None for programming errors, which are raised unchanged.

    Args:
        error: the error of a statement or of connecting.
        in_doubt: True if the statement was one that commits.
    """
    answer = server_error(error)
    if answer is not None:
        return _from_server_error(answer, in_doubt, gone=answer is not error)
    if not is_connection_lost(error):
        return None
    if in_doubt:
        return unknown_outcome_error()
    return unavailable_error() if isinstance(error, TimeoutError) else RetryTransaction()


def _from_server_error(answer: Any, in_doubt: bool, gone: bool) -> Exception | None:
    state: str = answer.sqlstate or ""
    if in_doubt and (state.startswith(OUTCOME_UNKNOWN) or answer.severity_en == "PANIC"):
        return unknown_outcome_error()
    if gone or state in RETRYABLE:
        return RetryTransaction()
    return unavailable_error() if state.startswith(UNUSABLE) else None


def server_error(error: Exception) -> Any:
    """The server's own error, which may have ended the connection; None if the server sent none."""
    if isinstance(error, ConnectionDoesNotExistError):
        return error.__cause__ if isinstance(error.__cause__, PostgresError) else None
    return cast("Any", error) if isinstance(error, PostgresError) else None


def is_connection_lost(error: Exception) -> bool:
    """True if the connection was lost, or the server does not answer."""
    if isinstance(
        error, InterfaceError
    ):  # also the base of the driver's errors about parameters, which are ValueErrors
        return not isinstance(error, ValueError)
    return isinstance(error, OSError | EOFError | ConnectionDoesNotExistError | InternalClientError)
