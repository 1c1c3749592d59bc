"""Threads of the chat WebSocket in SQL: a row for each, one for each batch of its frames, and one for each signal."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..policies.limits import LEASE
from .engine import Row, Transaction
from .port import Events, Key, StoredThread
from .sql_part import SqlPart, autocommit, autocommit_nosync
from .sql_text import frames_column, frames_of, key_columns, string, string_or_none, text, text_or_none
from .thread_port import SKIPPED

# Taken over from a dead process, a thread skips some numbers: clients may have seen its last frames before they were written.
TAKE = f"""
    insert into oc_thread (principal, id, token, until, touched) values ($1, $2, $3, {{now}} + $4, {{now}})
    on conflict (principal, id) do update set token = excluded.token, until = excluded.until, touched = excluded.touched,
        last = oc_thread.last + case when oc_thread.token <> excluded.token then {SKIPPED} else 0 end
        where oc_thread.token is null or oc_thread.token = excluded.token or oc_thread.until < {{now}}
    returning id, last, settled, model, active, 1"""

HELD = "principal = $1 and id = $2 and token = $3"

# From a select: nothing is written to a thread that another turn holds by now.
WRITE = f"""
    insert into oc_frame (principal, thread, first, last, body)
        select principal, id, $4, $5, $6 from oc_thread where {HELD}
    on conflict (principal, thread, first) do update set last = excluded.last, body = excluded.body"""

RUNNING = "case when token is not null and until > {now} then 1 else 0 end"
COLUMNS = f"id, last, settled, model, active, {RUNNING}"

OLD_SIGNALS = """delete from oc_signal where n in (
    select n from oc_signal where created < {now} - $1 order by created limit $2) returning 1"""

OLD_THREADS = """
    delete from oc_thread where (principal, id) in (
        select principal, id from oc_thread where (token is null or until < {now}) and touched < {now} - $1
        order by touched limit $2)
    and (token is null or until < {now}) and touched < {now} - $1 returning principal, id"""


class SqlThreads(SqlPart):
    """ThreadStore on an engine. Nothing waits for the disk: the lasting data is in the conversation."""

    @autocommit_nosync
    def take_thread(self, key: Key, token: str, keep: int, lease: float = LEASE) -> Transaction[StoredThread | None]:
        rows = yield TAKE, (*key_columns(key), token, lease)
        if not rows:
            return None
        found = _to_thread(rows[0])
        yield (
            "delete from oc_frame where principal = $1 and thread = $2 and last <= $3",
            (*key_columns(key), found.last - keep),
        )
        return found

    @autocommit_nosync
    def append_frames(self, key: Key, token: str, thread: StoredThread, frames: Events | None) -> Transaction[bool]:
        if frames is not None:
            yield WRITE, (*key_columns(key), token, frames.first, frames.last, frames_column(self.dialect, frames.body))
        rows = yield (
            f"""update oc_thread set last = $4, settled = $5, model = $6, active = $7, touched = {{now}}
            where {HELD} returning id""",
            (*key_columns(key), token, thread.last, thread.settled, text_or_none(thread.model), thread.active),
        )
        return bool(rows)

    @autocommit_nosync
    def leave_thread(self, key: Key, token: str) -> Transaction[None]:
        yield (
            f"update oc_thread set token = null, until = null, active = 'null', touched = {{now}} where {HELD}",
            (*key_columns(key), token),
        )
        yield "delete from oc_signal where token = $1", (token,)

    @autocommit
    def thread(self, key: Key, within: float) -> Transaction[StoredThread | None]:
        rows = yield (
            f"""select {COLUMNS} from oc_thread
            where principal = $1 and id = $2 and (until > {{now}} or touched > {{now}} - $3)""",
            (*key_columns(key), within),
        )
        return _to_thread(rows[0]) if rows else None

    @autocommit
    def threads(self, principal: str) -> Transaction[Sequence[StoredThread]]:
        rows = yield (
            f"select {COLUMNS} from oc_thread where principal = $1 and token is not null and until > {{now}} order by id",
            (text(principal),),
        )
        return [_to_thread(row) for row in rows]

    @autocommit
    def frames(self, key: Key, after: int) -> Transaction[Sequence[Events]]:
        rows = yield (
            "select first, last, body from oc_frame where principal = $1 and thread = $2 and last > $3 order by first",
            (*key_columns(key), after),
        )
        return [Events(first, last, frames_of(body)) for first, last, body in rows]

    @autocommit_nosync
    def put_signal(self, key: Key, body: str) -> Transaction[bool]:
        """Send a signal to the turn that holds the thread now, and to no later one."""
        rows = yield (
            """insert into oc_signal (principal, token, body, created)
                select principal, token, cast($3 as text), {now} from oc_thread
                where principal = $1 and id = $2 and token is not null and until > {now}
            returning n""",
            (*key_columns(key), body),
        )
        return bool(rows)

    @autocommit_nosync
    def take_signals(self, tokens: Sequence[str]) -> Transaction[Sequence[tuple[str, str]]]:
        """Read and delete signals; nothing is written if there are none."""
        wanted = json.dumps(list(tokens))
        # Called four times a second by every process with a turn, nearly always without a result.
        found = yield f"select 1 from oc_signal where token {self.dialect.among} limit 1", (wanted,)
        if not found:
            return []
        rows = yield f"delete from oc_signal where token {self.dialect.among} returning n, token, body", (wanted,)
        return [(token, body) for _, token, body in sorted(rows, key=lambda row: int(row[0]))]


def sweep_threads(age: float, batch: int) -> Transaction[int]:
    """Delete threads, with their frames, that were unused for `age` seconds."""
    rows = yield OLD_THREADS, (age, batch)
    for owner in rows:
        yield "delete from oc_frame where principal = $1 and thread = $2", owner
    return len(rows)


def _to_thread(row: Row) -> StoredThread:
    id_, last, settled, model, active, running = row
    return StoredThread(string(id_), last, settled, string_or_none(model), active, bool(running))
