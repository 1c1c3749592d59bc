"""Webhook notices to other servers, in SQL: a row for each, until it is delivered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .engine import Statement, Transaction
from .port import WebhookNotice
from .sql_part import SqlPart, autocommit, autocommit_nosync
from .sql_text import string, text

DUE = "target = $1 and due <= {now} + $2 and (until is null or until < {now})"

# Rows locked by others are skipped: several processes share one outbox, and none waits for another's rows.
TAKE = f"""
    update oc_outbox set token = $3, until = {{now}} + $4 where n in (
        select n from oc_outbox where {DUE} order by due, n limit $5 {{skip_locked}})
    returning n, id, body, attempt"""

OLD = """delete from oc_outbox where n in (
    select n from oc_outbox where created < {now} - $1 order by created limit $2) returning 1"""
"""Deletes notices for targets that no server has any more."""


def write_notices(principal: str, notices: Sequence[WebhookNotice]) -> Statement:
    """Insert notices, which are due at once."""
    values: list[str] = []
    parameters: list[object] = []
    for notice in notices:
        at = len(parameters)
        values.append(f"(${at + 1}, ${at + 2}, ${at + 3}, ${at + 4}, {{now}}, {{now}})")
        parameters += [notice.id, text(principal), text(notice.target), notice.body]
    return f"insert into oc_outbox (id, principal, target, body, due, created) values {', '.join(values)}", parameters


class SqlOutbox(SqlPart):
    """OutboxStore on an engine. If a power failure undoes a write, the notice is only sent again."""

    @autocommit_nosync
    def take_notices(
        self, target: str, token: str, limit: int, hold: float, ahead: float = 0.0
    ) -> Transaction[Sequence[WebhookNotice]]:
        rows = yield (
            TAKE.replace("{skip_locked}", self.dialect.skip_locked),
            (text(target), ahead, token, hold, limit),
        )
        return [
            WebhookNotice(id_, target, body, attempt, n)
            for n, id_, body, attempt in sorted(rows, key=lambda row: int(row[0]))
        ]

    @autocommit_nosync
    def defer_notice(self, number: int, token: str, seconds: float) -> Transaction[None]:
        yield (
            """update oc_outbox set attempt = attempt + 1, due = {now} + $3, token = null, until = null
            where n = $1 and token = $2""",
            (number, token, seconds),
        )

    @autocommit_nosync
    def end_notice(self, number: int) -> Transaction[None]:
        yield "delete from oc_outbox where n = $1", (number,)

    @autocommit
    def targets(self) -> Transaction[Mapping[str, int]]:
        rows = yield "select target, count(*) from oc_outbox group by target", ()
        return {string(target): int(count) for target, count in rows}
