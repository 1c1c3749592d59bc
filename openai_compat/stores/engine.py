"""The port of SQL databases: an engine runs transactions, each a generator of statements.

    def delete(key: Key) -> Transaction[bool]:
        rows = yield "delete from conversation where principal = $1 and id = $2 returning id", (key.principal, key.id)
        return bool(rows)

The engine sends the generator the rows of each statement that it yields; the generator returns the transaction's
result. A generator holds no connection and awaits nothing, so the same transactions run on every engine, in a thread or
in an event loop, and tests can interrupt them at any statement. Engines retry transactions (serialization failure,
deadlock), so a transaction must have no other side effects.

`Autocommit(transaction)` runs a single statement, or several that need not be atomic, without `begin` and `commit`,
which saves two round trips. `StatementBatch(statements)` can be yielded in place of a statement: it runs several in one round
trip. `{now}` in a statement stands for the engine's clock in unix seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

Result = TypeVar("Result")
Row: TypeAlias = Sequence[Any]
Statement: TypeAlias = tuple[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class StatementBatch:
    """Statements that are executed as one: all of them, or none.

    Each statement with `returning` must return a row; if one does not, the engine rolls back and raises ConditionFailed.
    Each sees the rows as they were before: PostgreSQL gets them as one statement. SQLite executes them in this order, so a
    statement must come after those that read what it writes. The generator is sent no rows.
    """

    statements: Sequence[Statement]


class ConditionFailed(Exception):
    """A statement of a StatementBatch has returned no row, so that none of its statements took effect."""


Transaction: TypeAlias = Generator[Statement | StatementBatch, Sequence[Row], Result]


@dataclass(frozen=True, slots=True)
class Autocommit(Generic[Result]):
    """A transaction that need not be atomic, and can be repeated after some of its statements were executed.

    With `durable=False` the engine does not wait for the disk: the changes survive a crash of the process, but not of the
    machine. That suits locks, which nobody holds after a crash, and events, which are only needed until the outcome is stored.
    """

    transaction: Callable[[], Transaction[Result]]
    durable: bool = True

    def __call__(self) -> Transaction[Result]:
        """Start the statements again, for each attempt."""
        return self.transaction()


class Engine(Protocol):
    """Runs transactions. Raises Unavailable (503 `store_unavailable`) if the database cannot be used."""

    @property
    def name(self) -> str:
        """The name of its dialect, "sqlite" or "postgresql"."""
        ...

    async def run(self, transaction: Callable[[], Transaction[Result]]) -> Result:
        """Run a transaction: all of its statements, or none.

        Raises Unavailable with code `store_outcome_unknown` if a commit was not answered.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections. Further use opens new ones."""
        ...
