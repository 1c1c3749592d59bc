"""Idempotency keys, slots and rate limits in SQL, shared by all processes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from ..policies.limits import LEASE
from .engine import Row, Statement, Transaction
from .port import Allowance, Charge, Claim, Key, Replay
from .sql_part import SqlPart, autocommit, autocommit_nosync
from .sql_text import key_columns, text

TAKE_SLOT = """
    update oc_slot set token = $2, until = {now} + $3
    where pool = $1 and n = (
        select n from oc_slot where pool = $1 and n < $4 and (token is null or until < {now} or token = $2)
        order by case when token = $2 then 0 else 1 end, n limit 1 {skip_locked})
    returning n"""

MAKE_SLOTS = """
    with recursive numbers (n) as (select 0 union all select n + 1 from numbers where n + 1 < $2)
    insert into oc_slot (pool, n) select $1, n from numbers where n < $2 on conflict (pool, n) do nothing"""

# PostgreSQL calls this `greatest` and SQLite `max`; both support `case`.
AHEAD = "(case when oc_rate.due > {now} then oc_rate.due else {now} end)"

COUNT = f"""
    insert into oc_rate (principal, id, due) values ($1, $2, {{now}} + $3)
    on conflict (principal, id) do update set due = {AHEAD} + $3 where {AHEAD} + $3 - {{now}} <= $4
    returning due - {{now}}"""
"""`due` is the time when all requests so far would have passed, had they been spread evenly."""

CHARGE = f"""
    insert into oc_rate (principal, id, due) values ($1, $2, {{now}} + $3)
    on conflict (principal, id) do update set due = {AHEAD} + $3"""
"""A cost known only afterwards is always added in full: it may exceed the burst that the rate allows."""

ROUNDING = 1e-6
"""Floating-point error of clock readings, in seconds."""


class SqlLimits(SqlPart):
    """The counting methods of Store on an engine."""

    @autocommit
    def claim(self, key: Key, request: str, token: str, lease: float = LEASE) -> Transaction[Claim]:
        """Insert a row for the key: the caller that succeeds runs the request, the others read the row."""
        while True:  # the row may be deleted between the two statements, when the key is released
            rows = yield (
                """insert into oc_claim (principal, id, request, token, until, touched)
                values ($1, $2, $3, $4, {now} + $5, {now}) on conflict (principal, id) do nothing returning id""",
                (*key_columns(key), request, token, lease),
            )
            if rows:
                return "taken"
            rows = yield (
                """select request, token, case when until < {now} then 1 else 0 end, status, headers, body
                from oc_claim where principal = $1 and id = $2""",
                key_columns(key),
            )
            if rows:
                return _to_claim(rows[0], request, token)

    @autocommit
    def settle(self, key: Key, token: str, replay: Replay | None) -> Transaction[None]:
        """Record the first answer; or, with None, delete the row, so that the key is free again."""
        if replay is None:
            yield (
                "delete from oc_claim where principal = $1 and id = $2 and token = $3 and status is null",
                (*key_columns(key), token),
            )
        else:
            yield (
                """update oc_claim set status = $4, headers = $5, body = $6, touched = {now}
                where principal = $1 and id = $2 and token = $3 and status is null""",
                (*key_columns(key), token, replay.status, json.dumps(replay.headers), replay.body),
            )

    @autocommit_nosync
    def take_slot(self, pool: str, token: str, size: int, lease: float = LEASE) -> Transaction[bool]:
        if size < 1:
            return False
        statement = TAKE_SLOT.replace("{skip_locked}", self.dialect.skip_locked)
        parameters = (text(pool), token, lease, size)
        rows = yield statement, parameters
        if not rows:
            made = yield "select count(*) from oc_slot where pool = $1 and n < $2", (text(pool), size)
            if made[0][0] < size:
                yield MAKE_SLOTS, (text(pool), size)
            # Again even if there were enough: `skip locked` skips a free row that another transaction is checking.
            rows = yield statement, parameters
        return bool(rows)

    @autocommit_nosync
    def free_slot(self, pool: str, token: str) -> Transaction[None]:
        """Free a slot; its row stays."""
        yield "update oc_slot set token = null, until = null where pool = $1 and token = $2", (text(pool), token)

    @autocommit_nosync
    def allow(self, key: Key, per_second: float, burst: int) -> Transaction[Allowance]:
        each = 1 / per_second
        rows = yield COUNT, (*key_columns(key), each, burst * each + ROUNDING)
        if rows:
            return Allowance(0.0, max(0, int(burst - rows[0][0] / each + ROUNDING)))
        rows = yield "select due - {now} from oc_rate where principal = $1 and id = $2", key_columns(key)
        ahead = rows[0][0] if rows else 0.0
        return Allowance(max(0.0, ahead + each - burst * each), 0)

    @autocommit
    def ahead(self, key: Key) -> Transaction[float]:
        rows = yield "select due - {now} from oc_rate where principal = $1 and id = $2", key_columns(key)
        return max(0.0, float(rows[0][0])) if rows else 0.0


def add_charges(principal: str, charges: Sequence[Charge]) -> Iterator[Statement]:
    """Add charges to rates, for the commit of a turn."""
    for charge in sorted(charges):  # in a fixed order, so that two turns of a principal cannot deadlock
        yield CHARGE, (*key_columns(Key(principal, charge.rate)), charge.seconds)


def _to_claim(row: Row, request: str, token: str) -> Claim:
    first, holder, expired, status, headers, body = row
    if first != request:
        return "other request"
    if status is not None:
        return Replay(status, tuple([(name, value) for name, value in json.loads(headers)]), bytes(body))
    if holder == token:  # the answer to our own claim was lost
        return "taken"
    # The process has died, and its agent may have had side effects: the request must not run again.
    return "lost" if expired else "running"
