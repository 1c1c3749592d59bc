"""Responses in SQL: one row each with its own items, and a row for each batch of its events."""

from __future__ import annotations

from collections.abc import Sequence

from ..policies.limits import LEASE
from .engine import Row, Statement, Transaction
from .port import Chain, Events, Key, StoredResponse, WebhookNotice
from .sql_conversations import MARK_LOST
from .sql_dialect import Dialect
from .sql_outbox import write_notices
from .sql_part import SqlPart, atomic, autocommit, autocommit_nosync
from .sql_states import mark_state_gone, state_column, to_state
from .sql_text import (
    frames_column,
    frames_of,
    key_columns,
    pack_items,
    string,
    string_or_none,
    text,
    text_or_none,
    unpack_items,
)

RUNNING = "status in ('queued', 'in_progress')"
ABANDONED = "(token is null or until < {now})"

TOUCH_INTERVAL = 60.0
"""Seconds within which another use is not recorded, so that not every read costs a write."""

# A commit is repeated if its answer was lost: it then overwrites its own row, and no other.
INSERT = """
    insert into oc_response (principal, id, created, status, background, previous, conversation, body, input, output,
        token, until, touched)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, {holder}, {now})
    on conflict (principal, id) do update
        set created = excluded.created, status = excluded.status, background = excluded.background,
            previous = excluded.previous, conversation = excluded.conversation, body = excluded.body,
            input = excluded.input, output = excluded.output, token = excluded.token, until = excluded.until,
            touched = excluded.touched
        where oc_response.token = $11
    returning id"""

BEGIN = INSERT.replace("{holder}", "$11, {now} + $12")
WRITE = INSERT.replace("{holder}", "null, null")

SET_OUTCOME = """
    update oc_response set created = $3, status = $4, background = $5, previous = $6, conversation = $7, body = $8,
        input = $9, output = $10, token = null, until = null, touched = {now}
    where principal = $1 and id = $2"""

OVERWRITE_REPEATED = "on conflict (principal, response, first) do update set last = excluded.last, body = excluded.body"
"""Overwrites the batch of an earlier append whose answer was lost."""

# One statement that checks and writes: with two, the thread would wait for the GIL once more.
APPEND_ONE = f"""
    insert into oc_event (principal, response, first, last, body)
        select principal, id, $4, $5, $6 from oc_response
        where principal = $1 and id = $2 and token = $3 and {RUNNING}
    {OVERWRITE_REPEATED} returning first"""

# From a select, so that only a response's holder can write to its log. `limit`, so that each response is looked up by
# its key: their number is unknown when the statement is planned.
APPEND = f"""
    insert into oc_event (principal, response, first, last, body)
        select held.principal, held.id, added.first, added.last, added.body
        from unnest(cast($1 as text[]), cast($2 as text[]), cast($3 as text[]), cast($4 as bigint[]),
            cast($5 as bigint[]), cast($6 as text[])) as added (principal, id, token, first, last, body)
        cross join lateral (
            select principal, id from oc_response
            where principal = added.principal and id = added.id and token = added.token and {RUNNING}
                {{hasty}} limit 1 {{lock}}) held
    {OVERWRITE_REPEATED} returning principal, response"""

HAS_EVENTS = """exists (
    select 1 from oc_event where oc_event.principal = oc_response.principal and oc_event.response = oc_response.id)"""
"""A queued response is in progress once its log has events."""

CHAIN = """
    with recursive chain (id, previous, input, output, depth, touched) as (
        select id, previous, input, output, 0, touched from oc_response where principal = $1 and id = $2
        union all
        select earlier.id, earlier.previous, earlier.input, earlier.output, chain.depth + 1, earlier.touched
        from chain join oc_response earlier on earlier.principal = $1 and earlier.id = chain.previous)
    select previous, input, output, case when touched < {now} - $3 then 1 else 0 end,
        case when depth = 0 then {state} end
    from chain order by depth desc""".replace("{state}", state_column("response"))


class SqlResponses(SqlPart):
    """ResponseStore on an engine, with a row for each response and each batch of events."""

    @autocommit
    def begin_response(
        self, principal: str, response: StoredResponse, token: str, lease: float = LEASE
    ) -> Transaction[None]:
        yield BEGIN, (*_columns(principal, response), token, lease)

    @autocommit_nosync
    def append(self, batches: Sequence[tuple[Key, str, Events]]) -> Transaction[frozenset[str]]:
        if self.dialect.arrays:
            rows = [
                (*key_columns(key), token, events.first, events.last, events.body.decode())
                for key, token, events in batches
            ]
            statement = APPEND.replace("{hasty}", self.dialect.hasty).replace("{lock}", self.dialect.lock)
            written = yield statement, [list(column) for column in zip(*rows, strict=True)]
            held = {(principal, response) for principal, response in written}
            return frozenset([token for principal, response, token, *_ in rows if (principal, response) in held])
        tokens: list[str] = []
        for key, token, events in batches:  # SQLite's transaction excludes all others
            frames = frames_column(self.dialect, events.body)
            if (yield APPEND_ONE, (*key_columns(key), token, events.first, events.last, frames)):
                tokens.append(token)
        return frozenset(tokens)

    @atomic
    def end_response(
        self, principal: str, response: StoredResponse, events: Events | None, notices: Sequence[WebhookNotice] = ()
    ) -> Transaction[bool]:
        return _set_outcome(self.dialect, f"and {ABANDONED}", principal, response, events, notices=notices)

    @atomic
    def take_response(
        self, principal: str, response: StoredResponse, events: Events | None, notices: Sequence[WebhookNotice] = ()
    ) -> Transaction[bool]:
        return _set_outcome(self.dialect, "", principal, response, events, notices=notices)

    @autocommit
    def lost_responses(self, limit: int) -> Transaction[Sequence[Key]]:
        """Background responses that no live process holds. Only rows with a token are scanned."""
        rows = yield (
            f"""select principal, id from oc_response
            where token is not null and until < {{now}} and background = 1 and {RUNNING} limit $1""",
            (limit,),
        )
        return [Key(string(principal), string(id_)) for principal, id_ in rows]

    @autocommit
    def cancel(self, key: Key) -> Transaction[bool]:
        """Request the cancellation of a response. Its process notices when it renews the lease."""
        rows = yield (
            f"update oc_response set cancel = 1 where principal = $1 and id = $2 and {RUNNING} returning id",
            key_columns(key),
        )
        return bool(rows)

    @autocommit
    def response(self, key: Key) -> Transaction[StoredResponse | None]:
        rows = yield (
            f"""select created, case when status = 'queued' and {HAS_EVENTS} then 'in_progress' else status end,
                background, previous, conversation, body, input, output, cancel,
                case when {RUNNING} and {ABANDONED} then 0 else 1 end
            from oc_response where principal = $1 and id = $2""",
            key_columns(key),
        )
        return _to_response(key.id, rows[0]) if rows else None

    @autocommit
    def chain(self, key: Key) -> Transaction[Chain | None]:
        rows = yield CHAIN, (*key_columns(key), TOUCH_INTERVAL)
        if not rows or rows[0][0] is not None:
            return None
        # Earlier responses need no touch: the sweep spares responses that another one continues.
        if rows[-1][3]:
            yield "update oc_response set touched = {now} where principal = $1 and id = $2", key_columns(key)
        items = [item for _, input_, output, *_ in rows for item in (*unpack_items(input_), *unpack_items(output))]
        state = rows[-1][4]
        return Chain(tuple(items), None if state is None else to_state("response", key.id, state))

    @autocommit
    def events(self, key: Key, after: int) -> Transaction[Sequence[Events]]:
        rows = yield (
            "select first, last, body from oc_event where principal = $1 and response = $2 and last > $3 order by first",
            (*key_columns(key), after),
        )
        return [Events(first, last, frames_of(body)) for first, last, body in rows]

    @atomic
    def delete_response(self, key: Key) -> Transaction[bool]:
        rows = yield "delete from oc_response where principal = $1 and id = $2 returning token", key_columns(key)
        if not rows:
            return False
        yield "delete from oc_event where principal = $1 and response = $2", key_columns(key)
        yield mark_state_gone("response", key_columns(key))
        # A running turn must not recreate the response with its commit.
        if rows[0][0] is not None:
            yield MARK_LOST, (rows[0][0], text(key.principal))
        return True


def write_response(principal: str, response: StoredResponse, token: str) -> Statement:
    """Write a response with its outcome; returns no row if the response was begun and `token` does not hold it."""
    return WRITE, (*_columns(principal, response), token)


def add_events(dialect: Dialect, key: Key, events: Events) -> Statement:
    """Write a batch in a transaction that has checked the token."""
    return (
        f"insert into oc_event (principal, response, first, last, body) values ($1, $2, $3, $4, $5) {OVERWRITE_REPEATED}",
        (*key_columns(key), events.first, events.last, frames_column(dialect, events.body)),
    )


def _set_outcome(
    dialect: Dialect,
    condition: str,
    principal: str,
    response: StoredResponse,
    events: Events | None,
    *,
    notices: Sequence[WebhookNotice],
) -> Transaction[bool]:
    """Set the outcome of a running response from outside. The turn that holds it loses it."""
    key = Key(principal, response.id)
    # Locked before it is settled: if two processes find it abandoned, only one writes its outcome.
    rows = yield (
        f"select token from oc_response where principal = $1 and id = $2 and {RUNNING} {condition} {dialect.lock}",
        key_columns(key),
    )
    if not rows:
        return False
    yield SET_OUTCOME, _columns(principal, response)
    # Its process may still run, or be frozen, and must not commit another outcome.
    if rows[0][0] is not None:
        yield MARK_LOST, (rows[0][0], text(principal))
    if events is not None:
        yield add_events(dialect, key, events)
    if notices:
        yield write_notices(principal, notices)
    return True


def _columns(principal: str, response: StoredResponse) -> tuple[object, ...]:
    """The parameters $1 to $10 of the statements above."""
    return (
        *key_columns(Key(principal, response.id)),
        response.created,
        response.status,
        int(response.background),
        text_or_none(response.previous),
        text_or_none(response.conversation),
        response.body,
        pack_items(response.input),
        pack_items(response.output),
    )


def _to_response(id_: str, row: Row) -> StoredResponse:
    created, status, background, previous, conversation, body, input_, output, cancelled, alive = row
    return StoredResponse(
        id=id_,
        created=created,
        status=status,
        body=body,
        background=bool(background),
        previous=string_or_none(previous),
        conversation=string_or_none(conversation),
        input=unpack_items(input_),
        output=unpack_items(output),
        alive=bool(alive),
        cancel=bool(cancelled),
    )
