"""Commits of turns, and lease renewals, in SQL."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial

import anyio

from ..errors import Unavailable
from ..policies.limits import LEASE
from .engine import Autocommit, ConditionFailed, Statement, StatementBatch, Transaction
from .port import Key, Renewal, TurnCommit
from .schema import UnusableStore
from .sql_approvals import write_approvals
from .sql_completions import write_completion
from .sql_conversations import add_items
from .sql_dialect import Dialect
from .sql_limits import add_charges
from .sql_outbox import write_notices
from .sql_part import SqlPart, autocommit_nosync
from .sql_responses import add_events, write_response
from .sql_spending import add_spends
from .sql_states import write_states
from .sql_text import key_columns, text

# Without the conversation there is no lock either, which a later statement detects.
LAST_ITEM = "coalesce((select last_item from oc_conversation where principal = $1 and id = $2), 0)"

ADD_TURN = """
    update oc_conversation set version = version + 1, last_item = last_item + $4, kept = 1,
        token = null, until = null, touched = {now}
    where principal = $1 and id = $2 and token = $3 returning version"""

END_TURN = """
    insert into oc_turn (token, principal, conversation, version, transcript, ended)
    values ($1, $2, $3, (select version + 1 from oc_conversation where principal = $2 and id = $3), $4, {now})
    on conflict (token) do nothing returning token"""


COMMIT_PATIENCE = 2.0
"""Seconds for which a commit is retried, so that a database restart loses no turn."""

PAUSE = 0.1
"""Seconds between retries."""


class SqlTurns(SqlPart):
    """The outcomes of turns, and the leases of running turns, on an engine."""

    async def commit(self, outcome: TurnCommit) -> bool:
        until = anyio.current_time() + COMMIT_PATIENCE
        while True:
            try:
                try:
                    await self.run(Autocommit(partial(_commit, self.dialect, outcome)))
                except ConditionFailed:
                    return await self.run(Autocommit(partial(_was_committed, outcome.token)))
                return True
            except UnusableStore:  # a retry cannot help
                raise
            except Unavailable:  # safe to repeat: the row of its token can be inserted only once
                if anyio.current_time() > until:
                    raise
            await anyio.sleep(PAUSE)

    @autocommit_nosync
    def renew(self, tokens: Sequence[str], lease: float = LEASE) -> Transaction[Renewal]:
        return _renew(self.dialect, tokens, lease)


def _commit(dialect: Dialect, outcome: TurnCommit) -> Transaction[None]:
    """Write the whole outcome and release the locks. Raises ConditionFailed if the token has lost a lock, or was used before.

    A turn ends with the row of its token, which can be inserted once: by its commit, or when it loses a lock.
    """
    yield StatementBatch(list(_commit_statements(dialect, outcome)))


def _commit_statements(dialect: Dialect, outcome: TurnCommit) -> Iterator[Statement]:  # noqa: C901  (one arm for each part)
    principal, turn = outcome.principal, outcome.conversation
    if outcome.response is not None:
        yield write_response(principal, outcome.response, outcome.token)
        if outcome.events is not None:
            yield add_events(dialect, Key(principal, outcome.response.id), outcome.events)
    if outcome.completion is not None:
        yield write_completion(principal, outcome.completion)
    if outcome.approvals:
        yield write_approvals(principal, outcome.approvals)
    if outcome.states:
        yield write_states(principal, outcome.states)
    if outcome.notices:
        yield write_notices(principal, outcome.notices)
    if outcome.spends:
        yield add_spends(principal, outcome.spends)
    if outcome.charges:
        yield from add_charges(principal, outcome.charges)
    conversation, transcript = (None, None) if turn is None else (text(turn.id), turn.transcript)
    yield END_TURN, (outcome.token, text(principal), conversation, transcript)
    if turn is not None:
        key = Key(principal, turn.id)
        if turn.items:
            yield add_items(dialect, key, LAST_ITEM, turn.items)
        # The lock is checked by the statement that writes: a process that was frozen past its lease comes too late. It is the
        # last statement, since the others read the row as it was.
        yield ADD_TURN, (*key_columns(key), outcome.token, len(turn.items))


def _was_committed(token: str) -> Transaction[bool]:
    """True if the turn has ended with a commit."""
    # Needed when the answer of a commit was lost: otherwise nobody knows if it must be written again.
    rows = yield "select lost from oc_turn where token = $1", (token,)
    return bool(rows) and not rows[0][0]


# The reason why a turn must stop, as `HELD_BY_TOKENS` reports it beside each token; 0 for none.
CANCELLED, SUPERSEDED = 1, 2

HELD_BY_TOKENS = """
    select token, cancel, case when until < {now} + $2 then 1 else 0 end from oc_response where token {among}
    union all
    select token, case when wanted <> token and wanting > {now} then 2 else 0 end,
        case when until < {now} + $2 then 1 else 0 end from oc_conversation where token {among}
    union all
    select token, 0, case when until < {now} + $2 then 1 else 0 end from oc_slot where token {among}
    union all
    select token, 0, case when until < {now} + $2 then 1 else 0 end from oc_thread where token {among}
    union all
    select token, 0, case when until < {now} + $2 then 1 else 0 end from oc_claim
    where token {among} and status is null"""

LOST = "select token from oc_turn where token {among} and lost = 1"

RENEW = (
    "update oc_conversation set until = {now} + $2 where token {among}",
    "update oc_response set until = {now} + $2 where token {among}",
    "update oc_thread set until = {now} + $2 where token {among}",
    "update oc_slot set until = {now} + $2 where token {among}",
    "update oc_claim set until = {now} + $2 where token {among} and status is null",
)


def _renew(dialect: Dialect, tokens: Sequence[str], lease: float) -> Transaction[Renewal]:
    """Renew the leases of these tokens, and return the tokens that still hold everything they took.

    A turn that has lost one lock has lost, even if it still holds others.
    """
    wanted = json.dumps(list(tokens))
    rows = yield HELD_BY_TOKENS.replace("{among}", dialect.among), (wanted, lease / 2)
    gone = yield LOST.replace("{among}", dialect.among), (wanted,)
    # Called several times a second, so it only writes once half of a lease is over.
    if any([due for _, _, due in rows]):
        for statement in RENEW:
            yield statement.replace("{among}", dialect.among), (wanted, lease)
    held = frozenset([token for token, _, _ in rows]) - {token for (token,) in gone}
    cancelled = frozenset([token for token, stop, _ in rows if stop == CANCELLED])
    return Renewal(held, cancelled, frozenset([token for token, stop, _ in rows if stop == SUPERSEDED]))
