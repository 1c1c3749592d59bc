"""Files in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from .engine import Row, Transaction
from .port import Key, StoredFile
from .sql_part import SqlPart
from .sql_responses import USED_LATELY
from .sql_text import owned, string, text

COLUMNS = "id, created, filename, purpose, media_type, size, expires"
FRESH = "(expires is null or expires > {now})"
ONE = f"where principal = $1 and id = $2 and {FRESH}"


class SqlFiles(SqlPart):
    """FileStore on an engine."""

    async def put_file(self, principal: str, file: StoredFile, content: bytes) -> None:
        """Keep a file."""
        await self._step(partial(put_file, principal, file, content))

    async def get_file(self, key: Key) -> StoredFile | None:
        """What is known of a file."""
        return await self._step(partial(get_file, key))

    async def file_content(self, key: Key) -> bytes | None:
        """Its bytes."""
        return await self._step(partial(file_content, key))

    async def list_files(self, principal: str) -> Sequence[StoredFile]:
        """All of a principal's files, oldest first."""
        return await self._step(partial(list_files, principal))

    async def delete_file(self, key: Key) -> bool:
        """Forget a file."""
        return await self._step(partial(delete_file, key))


def put_file(principal: str, file: StoredFile, content: bytes) -> Transaction[None]:
    """New, or in place of the one with the same id."""
    yield (
        f"""insert into oc_file (principal, {COLUMNS}, content, touched)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, {{now}})
        on conflict (principal, id) do update
            set created = excluded.created, filename = excluded.filename, purpose = excluded.purpose,
                media_type = excluded.media_type, size = excluded.size, expires = excluded.expires,
                content = excluded.content, touched = excluded.touched""",
        (
            *owned(Key(principal, file.id)),
            file.created,
            text(file.filename),
            text(file.purpose),
            text(file.media_type),
            file.size,
            file.expires,
            content,
        ),
    )


def get_file(key: Key) -> Transaction[StoredFile | None]:
    """One row without the content."""
    rows = yield f"select {COLUMNS} from oc_file {ONE}", owned(key)
    return _file(rows[0]) if rows else None


def _file(row: Row) -> StoredFile:
    id_, created, filename, purpose, media_type, size, expires = row
    return StoredFile(
        id=string(id_),
        created=created,
        filename=string(filename),
        purpose=string(purpose),
        media_type=string(media_type),
        size=size,
        expires=expires,
    )


def file_content(key: Key) -> Transaction[bytes | None]:
    """The content, which counts as a use."""
    rows = yield f"select content from oc_file {ONE}", owned(key)
    if not rows:
        return None
    yield (
        "update oc_file set touched = {now} where principal = $1 and id = $2 and touched < {now} - $3",
        (*owned(key), USED_LATELY),
    )
    return bytes(rows[0][0])


def list_files(principal: str) -> Transaction[Sequence[StoredFile]]:
    """In the order in which they came."""
    rows = yield f"select {COLUMNS} from oc_file where principal = $1 and {FRESH} order by n", (text(principal),)
    return [_file(row) for row in rows]


def delete_file(key: Key) -> Transaction[bool]:
    """Forget it."""
    rows = yield f"delete from oc_file {ONE} returning id", owned(key)
    return bool(rows)
