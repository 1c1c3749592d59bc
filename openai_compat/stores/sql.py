"""The store on a SQL database: an engine runs its transactions. The tables are in `schema`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from .engine import Transaction
from .port import RETENTION
from .sql_approvals import SqlApprovals
from .sql_completions import SqlCompletions
from .sql_conversations import SqlConversations
from .sql_files import SqlFiles
from .sql_grants import SqlGrants
from .sql_limits import SqlLimits
from .sql_outbox import OLD as OLD_NOTICES
from .sql_outbox import SqlOutbox
from .sql_part import autocommit
from .sql_responses import SqlResponses
from .sql_settings import SqlSettings
from .sql_spending import OLD_SPENDS, SPEND_RETENTION, SqlSpending
from .sql_states import EXPIRE, OLD, SqlStates
from .sql_sweep import (
    BATCH,
    DAY,
    EXPIRED,
    NEVER_KEPT,
    ROWS,
    SHORT_LIVED,
    UNUSED,
    sweep_conversations,
    sweep_responses,
    sweep_rows,
)
from .sql_threads import OLD_SIGNALS, SqlThreads, sweep_threads
from .sql_turns import SqlTurns


class SqlStore(
    SqlConversations,
    SqlResponses,
    SqlCompletions,
    SqlFiles,
    SqlApprovals,
    SqlGrants,
    SqlStates,
    SqlOutbox,
    SqlSettings,
    SqlSpending,
    SqlThreads,
    SqlLimits,
    SqlTurns,
):
    """State in a database that several processes may share."""

    shared = True

    async def sweep(self, retention: float = RETENTION) -> int:
        """Delete outdated rows, in small transactions."""
        swept = 0
        for transaction in _sweeps(retention):
            while deleted := await self.run(transaction):
                swept += deleted
        return swept

    @autocommit
    def check(self) -> Transaction[None]:
        """Query the engine's clock, which needs no table."""
        yield "select {now}", ()

    async def aclose(self) -> None:
        """Close the engine. Further use opens it again."""
        await self.engine.aclose()


def _sweeps(retention: float) -> Iterator[Callable[[], Transaction[int]]]:
    short = min(retention, DAY)
    yield partial(sweep_conversations, UNUSED, retention)
    yield partial(sweep_conversations, NEVER_KEPT, 0.0)
    yield partial(sweep_responses, retention)
    rows = [(EXPIRED, 0.0), (EXPIRE, 0.0), (OLD, retention), (OLD_NOTICES, retention), (OLD_SPENDS, SPEND_RETENTION)]
    rows += [(statement, retention) for statement in ROWS]
    rows += [(statement, short) for statement in (OLD_SIGNALS, *SHORT_LIVED)]
    for statement, seconds in rows:
        yield partial(sweep_rows, statement, seconds)
    yield partial(sweep_threads, short, BATCH)
