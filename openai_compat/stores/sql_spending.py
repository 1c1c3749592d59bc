"""Tokens used by principals, in SQL: a row for each period, which the commit of each turn adds to."""

from __future__ import annotations

from collections.abc import Sequence

from .engine import Statement, Transaction
from .records import Spend
from .sql_part import SqlPart, autocommit
from .sql_text import text

SPEND_RETENTION = 400 * 24 * 3600.0
"""Retention of a period after its last turn, in seconds: a year of months can be read."""

OLD_SPENDS = """delete from oc_spend where n in (
    select n from oc_spend where touched < {now} - $1 order by touched limit $2) returning 1"""


def add_spends(principal: str, spends: Sequence[Spend]) -> Statement:
    """Add tokens to the periods' totals."""
    values: list[str] = []
    parameters: list[object] = []
    # In a fixed order, so that two turns of a principal cannot deadlock.
    for spend in sorted(spends):
        at = len(parameters)
        values.append(f"(${at + 1}, ${at + 2}, ${at + 3}, ${at + 4}, {{now}})")
        parameters += [text(principal), spend.period, spend.unit, spend.tokens]
    return (
        f"""insert into oc_spend (principal, period, unit, used, touched) values {", ".join(values)}
        on conflict (principal, period, unit) do update set used = oc_spend.used + excluded.used, touched = excluded.touched""",
        parameters,
    )


class SqlSpending(SqlPart):
    """SpendStore on an engine, with a row for each principal, period and unit."""

    @autocommit
    def spent(self, principal: str, period: str, unit: str) -> Transaction[int]:
        rows = yield (
            "select used from oc_spend where principal = $1 and period = $2 and unit = $3",
            (text(principal), period, unit),
        )
        return int(rows[0][0]) if rows else 0
