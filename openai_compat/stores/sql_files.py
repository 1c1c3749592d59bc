"""Uploaded files in SQL, with their content."""

from __future__ import annotations

from collections.abc import Sequence

from .engine import Row, Transaction
from .port import Key, Order, StoredFile
from .sql_part import SqlPart, autocommit, rows_after
from .sql_responses import TOUCH_INTERVAL
from .sql_sweep import DAY
from .sql_text import key_columns, string, text

COLUMNS = "id, created, filename, purpose, media_type, size, expires"
AVAILABLE = "(size >= 0 and (expires is null or expires > {now}))"
"""A deleted file keeps its row for a day, so that a page can begin after it."""
WHERE_KEY = f"where principal = $1 and id = $2 and {AVAILABLE}"


class SqlFiles(SqlPart):
    """FileStore on an engine, with a row for each file."""

    @autocommit
    def put_file(self, principal: str, file: StoredFile, content: bytes) -> Transaction[None]:
        yield (
            f"""insert into oc_file (principal, {COLUMNS}, content, touched)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, {{now}})
            on conflict (principal, id) do update
                set created = excluded.created, filename = excluded.filename, purpose = excluded.purpose,
                    media_type = excluded.media_type, size = excluded.size, expires = excluded.expires,
                    content = excluded.content, touched = excluded.touched""",
            (
                *key_columns(Key(principal, file.id)),
                file.created,
                text(file.filename),
                text(file.purpose),
                text(file.media_type),
                file.size,
                file.expires,
                content,
            ),
        )

    @autocommit
    def get_file(self, key: Key) -> Transaction[StoredFile | None]:
        """Read one row without the content."""
        rows = yield f"select {COLUMNS} from oc_file {WHERE_KEY}", key_columns(key)
        return _to_file(rows[0]) if rows else None

    @autocommit
    def file_content(self, key: Key) -> Transaction[bytes | None]:
        """The content of a file. Reading it counts as a use."""
        rows = yield f"select content from oc_file {WHERE_KEY}", key_columns(key)
        if not rows:
            return None
        yield (
            "update oc_file set touched = {now} where principal = $1 and id = $2 and touched < {now} - $3",
            (*key_columns(key), TOUCH_INTERVAL),
        )
        return bytes(rows[0][0])

    @autocommit
    def list_files(
        self, principal: str, after: str | None = None, order: Order = "asc"
    ) -> Transaction[Sequence[StoredFile] | None]:
        rows = yield from rows_after(f"{COLUMNS} from oc_file where {AVAILABLE}", "oc_file", principal, after, order)
        return None if rows is None else [_to_file(row) for row in rows]

    @autocommit
    def delete_file(self, key: Key) -> Transaction[bool]:
        """Delete the content and the metadata of a file; the row stays for a day."""
        rows = yield (
            f"""update oc_file set size = -1, content = $3, filename = '', media_type = '', expires = {{now}} + $4
            {WHERE_KEY} returning id""",
            (*key_columns(key), b"", DAY),
        )
        return bool(rows)


def _to_file(row: Row) -> StoredFile:
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
