"""Stored chat completions in SQL."""

from __future__ import annotations

import json
from collections.abc import Sequence

from .engine import Row, Statement, Transaction
from .port import Key, Order, StoredCompletion
from .sql_part import SqlPart, autocommit, rows_after
from .sql_text import key_columns, metadata_column, string, text

COLUMNS = "id, created, model, metadata, body, messages"
NOT_DELETED = "body <> ''"
"""A deleted completion keeps its row, so that a page can begin after it."""

WHERE_KEY = f"where principal = $1 and id = $2 and {NOT_DELETED}"


def write_completion(principal: str, completion: StoredCompletion) -> Statement:
    """Insert a completion, or replace the one with the same id."""
    return (
        f"""insert into oc_completion (principal, {COLUMNS}, touched) values ($1, $2, $3, $4, $5, $6, $7, {{now}})
        on conflict (principal, id) do update
            set created = excluded.created, model = excluded.model, metadata = excluded.metadata,
                body = excluded.body, messages = excluded.messages, touched = excluded.touched""",
        (
            *key_columns(Key(principal, completion.id)),
            completion.created,
            text(completion.model),
            metadata_column(completion.metadata),
            completion.body,
            completion.messages,
        ),
    )


class SqlCompletions(SqlPart):
    """CompletionStore on an engine, with a row for each completion."""

    @autocommit
    def put_completion(self, principal: str, completion: StoredCompletion) -> Transaction[None]:
        yield write_completion(principal, completion)

    @autocommit
    def get_completion(self, key: Key) -> Transaction[StoredCompletion | None]:
        rows = yield f"select {COLUMNS} from oc_completion {WHERE_KEY}", key_columns(key)
        return _to_completion(rows[0]) if rows else None

    @autocommit
    def delete_completion(self, key: Key) -> Transaction[bool]:
        """Empty the row; the row itself stays until the sweep."""
        rows = yield (
            f"""update oc_completion set body = '', messages = '', metadata = '', model = '', touched = {{now}}
            {WHERE_KEY} returning id""",
            key_columns(key),
        )
        return bool(rows)

    @autocommit
    def list_completions(
        self, principal: str, after: str | None = None, order: Order = "asc"
    ) -> Transaction[Sequence[StoredCompletion] | None]:
        wanted = f"{COLUMNS} from oc_completion where {NOT_DELETED}"
        rows = yield from rows_after(wanted, "oc_completion", principal, after, order)
        return None if rows is None else [_to_completion(row) for row in rows]


def _to_completion(row: Row) -> StoredCompletion:
    id_, created, model, metadata, body, messages = row
    return StoredCompletion(string(id_), created, string(model), json.loads(metadata), body, messages)
