"""Agent state left by turns, in SQL: a row for each conversation, response and pause that has a state."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, cast

from .engine import Statement, Transaction
from .port import AgentState, Key
from .sql_part import SqlPart, autocommit
from .sql_text import key_columns, string, text

GONE = "kind = 'gone', id = kind || ':' || id || ':' || session, expires = null, touched = {now}"

LIVE = """exists (
    select 1 from oc_state live
    where live.principal = oc_state.principal and live.session = oc_state.session and live.kind <> 'gone')"""

USED_UP = 2**53
"""Stored in place of the second until which a pause is in use."""

USABLE = f"principal = $1 and kind = 'pause' and id = $2 and used < {USED_UP} and expires > {{now}}"

EXPIRE = f"""update oc_state set {GONE} where (principal, kind, id) in (
    select principal, kind, id from oc_state where expires < {{now}} - $1 order by expires limit $2) returning 1"""
"""Marks states of paused calls as unreachable once nobody has answered them in time."""

OLD = """delete from oc_state where (principal, kind, id) in (
    select principal, kind, id from oc_state where kind = 'gone' and touched < {now} - $1
    order by touched limit $2) returning 1"""
"""Deletes unreachable states whose agent never came to forget them."""


def state_column(kind: Literal["conversation", "response"]) -> str:
    """The column expression for the state of the conversation or response `$1`, `$2`; null if it has none."""
    return f"(select body from oc_state where oc_state.principal = $1 and kind = '{kind}' and oc_state.id = $2)"


def mark_state_gone(kind: Literal["conversation", "response"], owner: Sequence[object]) -> Statement:
    """Mark the state of a deleted conversation or response as unreachable."""
    return f"update oc_state set {GONE} where principal = $1 and kind = '{kind}' and id = $2", owner


def write_states(principal: str, states: Sequence[AgentState]) -> Statement:
    """Insert states, or replace those with the same keys."""
    rows: list[tuple[object, ...]] = []
    for state in states:
        # All in one column, so that another statement can select a state as one value.
        body = [state.agent, state.session, state.version, state.paused, state.turn, state.body, state.expires]
        rows.append((text(principal), state.of, text(state.id), state.session, json.dumps(body), state.expires))
    numbers = [range(number * len(row) + 1, (number + 1) * len(row) + 1) for number, row in enumerate(rows)]
    values = ", ".join([f"({', '.join([f'${n}' for n in row])}, {{now}})" for row in numbers])
    return (
        f"""insert into oc_state (principal, kind, id, session, body, expires, touched) values {values}
        on conflict (principal, kind, id) do update set session = excluded.session, body = excluded.body,
            used = 0, expires = excluded.expires, touched = excluded.touched""",
        [value for row in rows for value in row],
    )


def to_state(kind: str, id_: str, body: str) -> AgentState:
    """Decode a state from its row."""
    agent, session, version, paused, turn, state, expires = json.loads(body)
    return AgentState(
        of=cast("Any", kind),
        id=id_,
        agent=agent,
        session=session,
        body=state,
        version=version,
        paused=paused,
        turn=turn,
        expires=expires,
    )


class SqlStates(SqlPart):
    """StateStore on an engine, with a row for each conversation, response and pause that has a state."""

    @autocommit
    def pause(self, key: Key) -> Transaction[AgentState | None]:
        rows = yield f"select body from oc_state where {USABLE}", key_columns(key)
        return to_state("pause", key.id, rows[0][0]) if rows else None

    @autocommit
    def use_pause(self, key: Key, seconds: float) -> Transaction[bool]:
        """Reserve a pause. Of several concurrent requests, the one whose statement finds it unused wins."""
        until = "cast({now} + $3 as bigint) + 1"
        rows = yield (
            f"update oc_state set used = {until} where {USABLE} and used <= {{now}} returning id",
            (*key_columns(key), float(seconds)),
        )
        return bool(rows)

    @autocommit
    def return_pause(self, key: Key) -> Transaction[None]:
        yield "update oc_state set used = 0 where principal = $1 and kind = 'pause' and id = $2", key_columns(key)

    @autocommit
    def end_pause(self, key: Key) -> Transaction[None]:
        yield (
            f"update oc_state set used = {USED_UP} where principal = $1 and kind = 'pause' and id = $2",
            key_columns(key),
        )

    @autocommit
    def gone_states(self, after: Key | None, limit: int) -> Transaction[Sequence[tuple[str, AgentState]]]:
        if after is None:
            yield f"delete from oc_state where kind = 'gone' and {LIVE}", ()
        bound = "" if after is None else "and (principal, id) > ($2, $3)"
        parameters = [limit] if after is None else [limit, *key_columns(after)]
        rows = yield (
            f"""select principal, id, body from oc_state where kind = 'gone' and not {LIVE} {bound}
            order by principal, id limit $1""",
            parameters,
        )
        return [(string(principal), to_state("gone", string(id_), body)) for principal, id_, body in rows]

    @autocommit
    def forget_state(self, key: Key) -> Transaction[None]:
        yield "delete from oc_state where principal = $1 and kind = 'gone' and id = $2", key_columns(key)
