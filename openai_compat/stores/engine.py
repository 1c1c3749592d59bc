"""What a SQL database is to the store: something that runs transactions, each a generator of statements.

    def delete(key: Key) -> Transaction[bool]:
        rows = yield "delete from conversation where principal = $1 and id = $2 returning id", (key.principal, key.id)
        return bool(rows)

The generator is sent the rows of each statement that it yields; what it returns is the transaction's result. It holds
no connection and awaits nothing, so the same transactions run on every engine, in a thread or in an event loop, and
tests can cut them at any statement. A transaction is repeated from its beginning where the engine says so
(serialization failure, deadlock), so it must not change anything outside.

A transaction of one statement, or of several that need not happen together, is written `Autocommit(transaction)`: it needs
no `begin` and `commit`, which saves two round trips. `{now}` in a statement stands for the engine's clock in unix seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

Result = TypeVar("Result")
Row: TypeAlias = Sequence[Any]
Statement: TypeAlias = tuple[str, Sequence[Any]]
Transaction: TypeAlias = Generator[Statement, Sequence[Row], Result]


@dataclass(frozen=True, slots=True)
class Autocommit(Generic[Result]):
    """A transaction whose statements need not happen together, and that can be begun again after some were done.

    What is not `durable` survives the death of the process, but an engine need not wait until it would survive that of
    the machine: locks, which nobody holds then, and events, which are only needed until the outcome is there.
    """

    transaction: Callable[[], Transaction[Result]]
    durable: bool = True

    def __call__(self) -> Transaction[Result]:
        """The transaction."""
        return self.transaction()


class Engine(Protocol):
    """Runs transactions. Raises Unavailable (503 `store_unavailable`) when the database cannot be used."""

    @property
    def name(self) -> str:
        """Which it is, "sqlite" or "postgresql": where statements have to differ."""
        ...

    async def run(self, transaction: Callable[[], Transaction[Result]]) -> Result:
        """Run a transaction: all of its statements, or none.

        Nothing is known of a transaction whose commit was not answered: Unavailable with code `store_outcome_unknown`.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...
