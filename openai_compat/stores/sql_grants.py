"""Always-allow grants, stored in SQL."""

from __future__ import annotations

from collections.abc import Sequence

from .engine import Transaction
from .port import MOST_GRANTS, Grant, Key
from .sql_part import SqlPart, atomic, autocommit
from .sql_text import key_columns, string, text

FORGET_OLDEST = """
    delete from oc_grant where principal = $1 and agent = $2 and tool = $3 and n not in (
        select n from oc_grant where principal = $1 and agent = $2 and tool = $3 order by n desc limit $4)"""


class SqlGrants(SqlPart):
    """GrantStore on an engine, with a row for each grant."""

    @atomic
    def put_grant(self, principal: str, grant: Grant) -> Transaction[None]:
        key = key_columns(Key(principal, grant.id))
        yield "delete from oc_grant where principal = $1 and id = $2", key
        yield (
            """insert into oc_grant (principal, id, agent, tool, body, created)
            values ($1, $2, $3, $4, $5, {now})
            on conflict (principal, id) do nothing""",
            (*key, text(grant.agent), text(grant.tool), grant.body),
        )
        yield FORGET_OLDEST, (text(principal), text(grant.agent), text(grant.tool), MOST_GRANTS)

    @autocommit
    def grants(self, principal: str, tool: tuple[str, str] | None = None) -> Transaction[Sequence[Grant]]:
        bound, parameters = "", [text(principal)]
        if tool is not None:
            bound, parameters = "and agent = $2 and tool = $3", [*parameters, *map(text, tool)]
        rows = yield (
            f"select id, agent, tool, body, created from oc_grant where principal = $1 {bound} order by n",
            parameters,
        )
        return [
            Grant(string(id_), string(agent), string(name), body, created) for id_, agent, name, body, created in rows
        ]

    @autocommit
    def delete_grant(self, key: Key) -> Transaction[bool]:
        rows = yield "delete from oc_grant where principal = $1 and id = $2 returning id", key_columns(key)
        return bool(rows)
