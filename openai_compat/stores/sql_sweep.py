"""Sweeps of the SQL store. Each transaction deletes a bounded number of rows, so that no turn waits long."""

from __future__ import annotations

from collections.abc import Sequence

from .engine import Transaction
from .sql_states import mark_state_gone

# Small, so that no turn waits long behind one transaction; the next one deletes the rest.
BATCH = 200
"""Rows deleted by one transaction."""

DAY = 24 * 3600.0
"""Retention of idempotency keys and of the end rows of turns, in seconds."""

FREE = "(token is null or until < {now})"
OLD = "touched < {now} - $1"

UNUSED = f"{FREE} and {OLD}"
NEVER_KEPT = f"kept = 0 and until < {{now}} and {OLD}"
"""Conversations that were only ever locked, by a process that has died."""

CONVERSATIONS = """
    delete from oc_conversation where (principal, id) in (
        select principal, id from oc_conversation where {these} order by touched limit $2)
    and {these} returning principal, id"""
"""The condition is checked twice, since a turn may begin in between. All sweeps use an index and scan no whole table."""

RESPONSES = f"""
    delete from oc_response where (principal, id) in (
        select principal, id from oc_response old where {UNUSED}
        and not exists (select 1 from oc_response newer where newer.principal = old.principal
            and newer.previous = old.id) order by touched limit $2)
    and {UNUSED} returning principal, id"""
"""Only responses that no other continues: the whole chain is stored as long as its newest response is used."""

ROWS = (
    f"""delete from oc_completion where n in (
        select n from oc_completion where {OLD} order by touched limit $2) returning 1""",
    f"""delete from oc_file where n in (
        select n from oc_file where expires is null and {OLD} order by touched limit $2) returning 1""",
    """delete from oc_approval where n in (
        select n from oc_approval where expires < {now} - $1 order by expires limit $2) returning 1""",
)

EXPIRED = """delete from oc_file where n in (
    select n from oc_file where expires <= {now} - $1 order by expires limit $2) returning 1"""

SHORT_LIVED = (
    f"""delete from oc_claim where (principal, id) in (
        select principal, id from oc_claim where {OLD} and (status is not null or until < {{now}})
        order by touched limit $2) returning 1""",
    """delete from oc_turn where token in (
        select token from oc_turn where conversation is null and ended < {now} - $1 order by ended limit $2) returning 1""",
    """delete from oc_rate where (principal, id) in (
        select principal, id from oc_rate where due < {now} - $1 order by due limit $2) returning 1""",
)


def sweep_conversations(these: str, age: float) -> Transaction[int]:
    """Delete conversations with their items and turns."""
    rows = yield CONVERSATIONS.replace("{these}", these), (age, BATCH)
    for owner in rows:
        yield "delete from oc_item where principal = $1 and conversation = $2", owner
        yield "delete from oc_turn where principal = $1 and conversation = $2", owner
        yield mark_state_gone("conversation", owner)
    return len(rows)


def sweep_responses(retention: float) -> Transaction[int]:
    """Delete responses with their events."""
    rows = yield RESPONSES, (retention, BATCH)
    for owner in rows:
        yield "delete from oc_event where principal = $1 and response = $2", owner
        yield mark_state_gone("response", owner)
    return len(rows)


def sweep_rows(statement: str, age: float) -> Transaction[int]:
    """Delete rows that have no dependent rows."""
    rows: Sequence[object] = yield statement, (age, BATCH)
    return len(rows)
