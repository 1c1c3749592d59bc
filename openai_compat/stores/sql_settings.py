"""Changes made to a server's settings at run time, in SQL."""

from __future__ import annotations

from collections.abc import Mapping

from .engine import Transaction
from .sql_part import SqlPart, autocommit
from .sql_text import string, text


class SqlSettings(SqlPart):
    """SettingStore on an engine, with a row for each setting."""

    @autocommit
    def put_setting(self, kind: str, name: str, body: str) -> Transaction[None]:
        yield (
            """insert into oc_setting (kind, name, body, touched) values ($1, $2, $3, {now})
            on conflict (kind, name) do update set body = excluded.body, touched = excluded.touched""",
            (kind, text(name), body),
        )

    @autocommit
    def settings(self, kind: str) -> Transaction[Mapping[str, str]]:
        rows = yield "select name, body from oc_setting where kind = $1", (kind,)
        return {string(name): body for name, body in rows}
