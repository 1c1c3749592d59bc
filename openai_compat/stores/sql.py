"""The store on a SQL database: transactions that an engine runs. See `schema` for the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import anyio

from ..errors import Unavailable
from ..policies.limits import LEASE
from .engine import Autocommit, ConditionFailed, Transaction
from .port import RETENTION, Renewal, TurnCommit
from .schema import UnusableStore
from .sql_approvals import SqlApprovals
from .sql_completions import SqlCompletions
from .sql_conversations import SqlConversations
from .sql_files import SqlFiles
from .sql_grants import SqlGrants
from .sql_limits import SqlLimits
from .sql_outbox import OLD as OLD_NOTICES
from .sql_outbox import SqlOutbox
from .sql_part import autocommit, autocommit_nosync
from .sql_responses import SqlResponses
from .sql_settings import SqlSettings
from .sql_spending import KEPT_SPENDS, OLD_SPENDS, SqlSpending
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
from .sql_turns import commit, renew, was_committed

COMMIT_PATIENCE = 2.0
"""Seconds for which a commit is retried, so that the restart of a database loses no turn."""

PAUSE = 0.1
"""Seconds between the retries."""


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
):
    """State in a database that several processes may share."""

    shared = True

    async def commit(self, outcome: TurnCommit) -> bool:
        """Write the outcome of a turn, if `token` holds its locks."""
        until = anyio.current_time() + COMMIT_PATIENCE
        while True:
            try:
                return await self._commit(outcome)  # can be repeated: the row of its token goes in once
            except UnusableStore:  # no retry helps
                raise
            except Unavailable:
                if anyio.current_time() > until:
                    raise
            await anyio.sleep(PAUSE)

    async def _commit(self, outcome: TurnCommit) -> bool:
        try:
            await self.run(Autocommit(partial(commit, self.dialect, outcome)))
        except ConditionFailed:
            return await self.run(Autocommit(partial(was_committed, outcome.token)))
        return True

    @autocommit_nosync
    def renew(self, tokens: Sequence[str], lease: float = LEASE) -> Transaction[Renewal]:
        """Renew the leases of everything that these tokens hold."""
        return renew(self.dialect, tokens, lease)

    async def sweep(self, retention: float = RETENTION) -> int:
        """Delete what is too old, in small transactions."""
        swept = 0
        for transaction in _sweeps(retention):
            while deleted := await self.run(transaction):
                swept += deleted
        return swept

    @autocommit
    def check(self) -> Transaction[None]:
        """Ask the engine for its time, which needs no table."""
        yield "select {now}", ()

    async def aclose(self) -> None:
        """Close the engine. Further use opens it again."""
        await self.engine.aclose()


def _sweeps(retention: float) -> Iterator[Callable[[], Transaction[int]]]:
    short = min(retention, DAY)
    yield partial(sweep_conversations, UNUSED, retention)
    yield partial(sweep_conversations, NEVER_KEPT, 0.0)
    yield partial(sweep_responses, retention)
    rows = [(EXPIRED, 0.0), (EXPIRE, 0.0), (OLD, retention), (OLD_NOTICES, retention), (OLD_SPENDS, KEPT_SPENDS)]
    rows += [(statement, retention) for statement in ROWS]
    rows += [(statement, short) for statement in (OLD_SIGNALS, *SHORT_LIVED)]
    for statement, seconds in rows:
        yield partial(sweep_rows, statement, seconds)
    yield partial(sweep_threads, short, BATCH)
