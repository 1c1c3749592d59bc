"""Chat completions in SQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

from .engine import Row, Transaction
from .port import Key, Order, StoredCompletion
from .sql_part import SqlPart, rows_after
from .sql_text import mapping, owned, string, text

COLUMNS = "id, created, model, metadata, body, messages"
THERE = "body <> ''"
"""Of a completion that was deleted only the place is left."""

ONE = f"where principal = $1 and id = $2 and {THERE}"


class SqlCompletions(SqlPart):
    """CompletionStore on an engine."""

    async def put_completion(self, principal: str, completion: StoredCompletion) -> None:
        """Keep a completion."""
        await self._step(partial(put_completion, principal, completion))

    async def get_completion(self, key: Key) -> StoredCompletion | None:
        """One completion."""
        return await self._step(partial(get_completion, key))

    async def delete_completion(self, key: Key) -> bool:
        """Forget one completion."""
        return await self._step(partial(delete_completion, key))

    async def list_completions(
        self, principal: str, after: str | None = None, order: Order = "asc"
    ) -> Sequence[StoredCompletion] | None:
        """A principal's completions."""
        return await self._step(partial(list_completions, principal, after, order))


def put_completion(principal: str, completion: StoredCompletion) -> Transaction[None]:
    """New or changed."""
    yield (
        f"""insert into oc_completion (principal, {COLUMNS}, touched) values ($1, $2, $3, $4, $5, $6, $7, {{now}})
        on conflict (principal, id) do update
            set created = excluded.created, model = excluded.model, metadata = excluded.metadata,
                body = excluded.body, messages = excluded.messages, touched = excluded.touched""",
        (
            *owned(Key(principal, completion.id)),
            completion.created,
            text(completion.model),
            mapping(completion.metadata),
            completion.body,
            completion.messages,
        ),
    )


def get_completion(key: Key) -> Transaction[StoredCompletion | None]:
    """One row."""
    rows = yield f"select {COLUMNS} from oc_completion {ONE}", owned(key)
    return _completion(rows[0]) if rows else None


def _completion(row: Row) -> StoredCompletion:
    id_, created, model, metadata, body, messages = row
    return StoredCompletion(string(id_), created, string(model), json.loads(metadata), body, messages)


def delete_completion(key: Key) -> Transaction[bool]:
    """Forget it, but for its place."""
    rows = yield (
        f"""update oc_completion set body = '', messages = '', metadata = '', model = '', touched = {{now}}
        {ONE} returning id""",
        owned(key),
    )
    return bool(rows)


def list_completions(principal: str, after: str | None, order: Order) -> Transaction[Sequence[StoredCompletion] | None]:
    """In the order in which they came, or the other way round."""
    wanted = f"{COLUMNS} from oc_completion where {THERE}"
    rows = yield from rows_after(wanted, "oc_completion", principal, after, order)
    return None if rows is None else [_completion(row) for row in rows]
