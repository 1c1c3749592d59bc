"""Commits of turns and renewals of their leases, in SQL."""

from __future__ import annotations

import json
from collections.abc import Sequence

from .engine import Transaction
from .port import ConversationTurn, Key, Renewal, TurnOutcome
from .sql_approvals import write_approval
from .sql_completions import write_completion
from .sql_conversations import add_items
from .sql_dialect import Dialect
from .sql_responses import add_events, keep_response
from .sql_text import owned, text


class TurnAlreadyEnded(Exception):
    """The turn was committed before, or has lost what it held. Nothing of its outcome may be written."""

    def __init__(self, committed: bool) -> None:
        super().__init__(committed)
        self.committed = committed


def commit(outcome: TurnOutcome) -> Transaction[None]:
    """Write all of an outcome and release the locks. Raises TurnAlreadyEnded, so that the engine rolls back.

    A turn ends with the row of its token, which can be inserted once: by its commit, or when it loses.
    """
    version = None
    if outcome.conversation is not None:
        version = yield from _add_turn(outcome, outcome.conversation)
    if outcome.response is not None and not (
        yield from keep_response(outcome.principal, outcome.response, outcome.token)
    ):
        yield from _over(outcome.token)
    if outcome.response is not None and outcome.events is not None:
        yield from add_events(Key(outcome.principal, outcome.response.id), outcome.events)
    if outcome.completion is not None:
        yield from write_completion(outcome.principal, outcome.completion)
    for approval in outcome.approvals:
        yield from write_approval(outcome.principal, approval)
    yield from _end(outcome, version)


def _add_turn(outcome: TurnOutcome, turn: ConversationTurn) -> Transaction[int]:
    key = Key(outcome.principal, turn.id)
    # The lock is checked in the transaction that writes: a process that was frozen past its lease comes too late.
    rows = yield (
        """update oc_conversation set version = version + 1, last_item = last_item + $4, kept = 1,
            token = null, until = null, touched = {now}
        where principal = $1 and id = $2 and token = $3 returning version, last_item""",
        (*owned(key), outcome.token, len(turn.items)),
    )
    if not rows:
        yield from _over(outcome.token)  # raises
    # `last_item` was raised by this turn already: its items are numbered up to it.
    version: int = rows[0][0]
    last: int = rows[0][1]
    yield from add_items(key, last - len(turn.items), turn.items)
    return version


def _end(outcome: TurnOutcome, version: int | None) -> Transaction[None]:
    turn = outcome.conversation
    # A turn's token has one row, so a commit whose answer was lost can be tried again.
    rows = yield (
        """insert into oc_turn (token, principal, conversation, version, transcript, ended)
        values ($1, $2, $3, $4, $5, {now}) on conflict (token) do nothing returning token""",
        (
            outcome.token,
            text(outcome.principal),
            None if turn is None else text(turn.id),
            version,
            None if turn is None else turn.transcript,
        ),
    )
    if not rows:
        yield from _over(outcome.token)


def _over(token: str) -> Transaction[None]:
    rows = yield "select lost from oc_turn where token = $1", (token,)
    raise TurnAlreadyEnded(committed=bool(rows) and not rows[0][0])


HELD_BY_TOKENS = """
    select token, cancel, case when until < {now} + $2 then 1 else 0 end from oc_response where token {among}
    union all
    select token, 0, case when until < {now} + $2 then 1 else 0 end from oc_conversation where token {among}
    union all
    select token, 0, case when until < {now} + $2 then 1 else 0 end from oc_slot where token {among}
    union all
    select token, 0, case when until < {now} + $2 then 1 else 0 end from oc_claim
    where token {among} and status is null"""

LOST = "select token from oc_turn where token {among} and lost = 1"

RENEW = (
    "update oc_conversation set until = {now} + $2 where token {among}",
    "update oc_response set until = {now} + $2 where token {among}",
    "update oc_slot set until = {now} + $2 where token {among}",
    "update oc_claim set until = {now} + $2 where token {among} and status is null",
)


def renew(dialect: Dialect, tokens: Sequence[str], lease: float) -> Transaction[Renewal]:
    """Renew the leases of these tokens, and return which still hold what they took.

    A turn that has lost one thing has lost, whatever else it still holds.
    """
    wanted = json.dumps(list(tokens))
    rows = yield HELD_BY_TOKENS.replace("{among}", dialect.among), (wanted, lease / 2)
    gone = yield LOST.replace("{among}", dialect.among), (wanted,)
    # Called several times a second, so it writes only once half of a lease is over.
    if any([due for _, _, due in rows]):
        for statement in RENEW:
            yield statement.replace("{among}", dialect.among), (wanted, lease)
    held = frozenset([token for token, _, _ in rows]) - {token for (token,) in gone}
    return Renewal(held, frozenset([token for token, cancel, _ in rows if cancel]))
