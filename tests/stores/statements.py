"""Transactions for tests of engines."""

from __future__ import annotations

from collections.abc import Callable

from openai_compat.stores.engine import Autocommit, Row, Transaction


def rows(sql: str, *parameters: object) -> Autocommit[list[Row]]:
    """One statement that returns its rows."""

    def transaction() -> Transaction[list[Row]]:
        return list((yield sql, parameters))

    return Autocommit(transaction)


def script(*statements: str) -> Callable[[], Transaction[None]]:
    """A transaction of these statements."""

    def transaction() -> Transaction[None]:
        for statement in statements:
            yield statement, ()

    return transaction
