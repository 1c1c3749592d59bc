"""Chat completions in SQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

from .engine import Row, Transaction
from .port import Key, StoredCompletion
from .sql_part import SqlPart
from .sql_text import mapping, owned, string, text

COLUMNS = "id, created, model, metadata, body, messages"


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

    async def list_completions(self, principal: str) -> Sequence[StoredCompletion]:
        """All of a principal's completions, oldest first."""
        return await self._step(partial(list_completions, principal))


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
    rows = yield f"select {COLUMNS} from oc_completion where principal = $1 and id = $2", owned(key)
    return _completion(rows[0]) if rows else None


def _completion(row: Row) -> StoredCompletion:
    id_, created, model, metadata, body, messages = row
    return StoredCompletion(string(id_), created, string(model), json.loads(metadata), body, messages)


def delete_completion(key: Key) -> Transaction[bool]:
    """Forget it."""
    rows = yield "delete from oc_completion where principal = $1 and id = $2 returning id", owned(key)
    return bool(rows)


def list_completions(principal: str) -> Transaction[Sequence[StoredCompletion]]:
    """In the order in which they came."""
    rows = yield f"select {COLUMNS} from oc_completion where principal = $1 order by n", (text(principal),)
    return [_completion(row) for row in rows]
