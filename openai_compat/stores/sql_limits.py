"""What counts over all processes: idempotency keys, slots and rate limits."""

from __future__ import annotations

import json
from functools import partial

from ..policies.limits import LEASE
from .engine import Row, Transaction
from .port import Allowance, Claim, Key, Replay
from .sql_dialect import Dialect
from .sql_part import SqlPart
from .sql_text import owned, text


class SqlLimits(SqlPart):
    """The counting methods of Store on an engine."""

    async def claim(self, key: Key, request: str, token: str, lease: float = LEASE) -> Claim:
        """Take an idempotency key."""
        return await self._step(partial(claim, key, request, token, lease))

    async def settle(self, key: Key, token: str, replay: Replay | None) -> None:
        """Record the answer, or give the key back."""
        await self._step(partial(give_back, key, token) if replay is None else partial(record, key, token, replay))

    async def take_slot(self, pool: str, token: str, size: int, lease: float = LEASE) -> bool:
        """Take one of the slots of a pool."""
        return await self._step(partial(take_slot, self._dialect, pool, token, size, lease), durable=False)

    async def free_slot(self, pool: str, token: str) -> None:
        """Give it back."""
        await self._step(partial(free_slot, pool, token), durable=False)

    async def allow(self, key: Key, per_second: float, burst: int) -> Allowance:
        """Count a request against a rate limit."""
        return await self._step(partial(allow, key, per_second, burst), durable=False)


def claim(key: Key, request: str, token: str, lease: float) -> Transaction[Claim]:
    """Whoever's row goes in runs; the others are told by it. If it is given back between, try again."""
    while True:
        rows = yield (
            """insert into oc_claim (principal, id, request, token, until, touched)
            values ($1, $2, $3, $4, {now} + $5, {now}) on conflict (principal, id) do nothing returning id""",
            (*owned(key), request, token, lease),
        )
        if rows:
            return "taken"
        rows = yield (
            """select request, token, case when until < {now} then 1 else 0 end, status, headers, body
            from oc_claim where principal = $1 and id = $2""",
            owned(key),
        )
        if rows:
            return _claimed(rows[0], request, token)


def _claimed(row: Row, request: str, token: str) -> Claim:
    first, holder, expired, status, headers, body = row
    if first != request:
        return "other request"
    if status is not None:
        return Replay(status, tuple([(name, value) for name, value in json.loads(headers)]), bytes(body))
    if holder == token:  # the answer to our own claim was lost
        return "taken"
    return "lost" if expired else "running"


def record(key: Key, token: str, replay: Replay) -> Transaction[None]:
    """The first answer counts."""
    yield (
        """update oc_claim set status = $4, headers = $5, body = $6, touched = {now}
        where principal = $1 and id = $2 and token = $3 and status is null""",
        (*owned(key), token, replay.status, json.dumps(replay.headers), replay.body),
    )


def give_back(key: Key, token: str) -> Transaction[None]:
    """The key is free again."""
    yield (
        "delete from oc_claim where principal = $1 and id = $2 and token = $3 and status is null",
        (*owned(key), token),
    )


TAKE_SLOT = """
    update oc_slot set token = $2, until = {now} + $3
    where pool = $1 and n = (
        select n from oc_slot where pool = $1 and n < $4 and (token is null or until < {now} or token = $2)
        order by case when token = $2 then 0 else 1 end, n limit 1 {skip_locked})
    returning n"""

MAKE_SLOTS = """
    with recursive numbers (n) as (select 0 union all select n + 1 from numbers where n + 1 < $2)
    insert into oc_slot (pool, n) select $1, n from numbers where n < $2 on conflict (pool, n) do nothing"""


def take_slot(dialect: Dialect, pool: str, token: str, size: int, lease: float) -> Transaction[bool]:
    """Tried twice: `skip locked` may find none because another transaction looks at the free one."""
    if size < 1:
        return False
    statement = TAKE_SLOT.replace("{skip_locked}", dialect.skip_locked)
    parameters = (text(pool), token, lease, size)
    rows = yield statement, parameters
    if not rows:
        made = yield "select count(*) from oc_slot where pool = $1 and n < $2", (text(pool), size)
        if made[0][0] < size:
            yield MAKE_SLOTS, (text(pool), size)
        rows = yield statement, parameters
    return bool(rows)


def free_slot(pool: str, token: str) -> Transaction[None]:
    """The row stays, empty."""
    yield "update oc_slot set token = null, until = null where pool = $1 and token = $2", (text(pool), token)


AHEAD = "(case when oc_rate.due > {now} then oc_rate.due else {now} end)"

COUNT = f"""
    insert into oc_rate (principal, id, due) values ($1, $2, {{now}} + $3)
    on conflict (principal, id) do update set due = {AHEAD} + $3 where {AHEAD} + $3 - {{now}} <= $4
    returning due - {{now}}"""

ROUNDING = 1e-6
"""Seconds by which clock readings in floating point may be off."""


def allow(key: Key, per_second: float, burst: int) -> Transaction[Allowance]:
    """`due` is when all that was let pass so far would have been spread evenly: at most `burst` requests ahead."""
    each = 1 / per_second
    rows = yield COUNT, (*owned(key), each, burst * each + ROUNDING)
    if rows:
        return Allowance(0.0, max(0, int(burst - rows[0][0] / each + ROUNDING)))
    rows = yield "select due - {now} from oc_rate where principal = $1 and id = $2", owned(key)
    ahead = rows[0][0] if rows else 0.0
    return Allowance(max(0.0, ahead + each - burst * each), 0)
