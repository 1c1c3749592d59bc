"""The schema of the SQL engines, and its migrations, which only go forward.

The types are PostgreSQL's; SQLite maps them by affinity, and bytes stay bytes. `{serial}` is a number in order of
insertion. Never edit a released migration: add a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from ..errors import Unavailable
from .engine import Transaction
from .sql_dialect import Dialect

VERSION_TABLE = "oc_schema"


class UnusableStore(Unavailable):
    """This version of the library cannot use the database. The database is unchanged."""

    code = "store_unavailable"
    should_retry = False


# The principal comes first in every key of a caller's data: no statement can name a row without naming its owner.
FIRST = (
    """create table oc_conversation (
        principal text not null, id text not null,
        version bigint not null default 0, last_item bigint not null default 0, kept bigint not null default 0,
        token text, until double precision,
        created double precision not null, touched double precision not null, metadata text not null,
        primary key (principal, id))""",
    "create index oc_conversation_touched on oc_conversation (touched)",
    "create index oc_conversation_never_kept on oc_conversation (touched) where kept = 0",
    "create index oc_conversation_token on oc_conversation (token) where token is not null",
    # Ordered by number, not by time: two items of one turn have the same time, and the clocks of processes differ.
    """create table oc_item (
        principal text not null, conversation text not null, n bigint not null, id text not null, body text not null,
        primary key (principal, conversation, n))""",
    "create unique index oc_item_id on oc_item (principal, conversation, id)",
    # A turn ends with this row, which can be inserted once: by its commit, or by the process that declares it dead.
    """create table oc_turn (
        token text primary key, principal text not null, conversation text, version bigint, transcript text,
        lost bigint not null default 0, ended double precision not null)""",
    "create index oc_turn_conversation on oc_turn (principal, conversation) where conversation is not null",
    "create index oc_turn_transcript on oc_turn (principal, transcript) where transcript is not null",
    "create index oc_turn_ended on oc_turn (ended) where conversation is null",
    """create table oc_response (
        principal text not null, id text not null, created double precision not null, status text not null,
        background bigint not null, previous text, conversation text,
        token text, until double precision, cancel bigint not null default 0, touched double precision not null,
        body text not null, input text not null, output text not null,
        primary key (principal, id))""",
    "create index oc_response_touched on oc_response (touched)",
    "create index oc_response_token on oc_response (token) where token is not null",
    "create index oc_response_previous on oc_response (principal, previous) where previous is not null",
    """create table oc_event (
        principal text not null, response text not null, first bigint not null, last bigint not null,
        body text not null, primary key (principal, response, first))""",
    """create table oc_completion (
        n {serial}, principal text not null, id text not null, created double precision not null,
        touched double precision not null, model text not null, metadata text not null, body text not null,
        messages text not null, unique (principal, id))""",
    "create index oc_completion_touched on oc_completion (touched)",
    """create table oc_file (
        n {serial}, principal text not null, id text not null, created double precision not null,
        touched double precision not null, expires double precision, filename text not null, purpose text not null,
        media_type text not null, size bigint not null, content bytea not null, unique (principal, id))""",
    "create index oc_file_touched on oc_file (touched)",
    "create index oc_file_expires on oc_file (expires) where expires is not null",
    """create table oc_approval (
        n {serial}, principal text not null, id text not null, created double precision not null,
        expires double precision not null, turn text not null, call_id text not null,
        conversation text, tool text not null, arguments text not null,
        digest text not null, state text not null, status text not null,
        decision text not null, unique (principal, id))""",
    "create index oc_approval_expires on oc_approval (expires)",
    """create table oc_claim (
        principal text not null, id text not null, request text not null, token text not null,
        until double precision not null, touched double precision not null,
        status bigint, headers text, body bytea, primary key (principal, id))""",
    "create index oc_claim_touched on oc_claim (touched)",
    "create index oc_claim_token on oc_claim (token)",
    """create table oc_slot (
        pool text not null, n bigint not null, token text, until double precision, primary key (pool, n))""",
    """create table oc_rate (
        principal text not null, id text not null, due double precision not null, primary key (principal, id))""",
    "create index oc_rate_due on oc_rate (due)",
)

APPROVAL_AGENTS = ("alter table oc_approval add column agent text not null default ''",)
"""The agent that requested an approval. Older approvals have none, so they can no longer be decided."""

APPROVAL_REQUESTS = ("alter table oc_approval add column request text",)
"""The request to the agent. Older versions store it in `state`, where it is still read until those approvals expire: an
older version may run beside this one, and PostgreSQL cannot extract from JSON that contains `\\u0000`."""

STATES = (
    """create table oc_state (
        principal text not null, kind text not null, id text not null, session text not null, body text not null,
        used bigint not null default 0, expires double precision, touched double precision not null,
        primary key (principal, kind, id))""",
    "create index oc_state_session on oc_state (principal, session)",
    "create index oc_state_expires on oc_state (expires) where expires is not null",
    "create index oc_state_gone on oc_state (touched) where kind = 'gone'",
)
"""Agent state left by turns. In a separate table, since most conversations and responses have none."""

OUTBOX = (
    """create table oc_outbox (
        n {serial}, id text not null, principal text not null, target text not null, body text not null,
        due double precision not null, attempt bigint not null default 0, token text, until double precision,
        created double precision not null)""",
    "create index oc_outbox_due on oc_outbox (target, due)",
    "create index oc_outbox_created on oc_outbox (created)",
)
"""Webhook notices: a row is inserted with the outcome it reports and deleted after delivery."""

NEXT_TURNS = (
    "alter table oc_conversation add column wanted text",
    "alter table oc_conversation add column wanting double precision",
)
"""The turn that gets a conversation next, and the end of its registration. It supersedes the turn that holds the lock."""

GRANTS = (
    """create table oc_grant (
        n {serial}, principal text not null, id text not null, agent text not null, tool text not null,
        body text not null, created double precision not null, unique (principal, id))""",
    "create index oc_grant_tool on oc_grant (principal, agent, tool)",
)
"""Always-allow grants. No sweep deletes them: only their owner revokes them."""

SETTINGS = (
    """create table oc_setting (
        kind text not null, name text not null, body text not null, touched double precision not null,
        primary key (kind, name))""",
)
"""Changes made to a server's settings at run time."""

SPENDS = (
    """create table oc_spend (
        n {serial}, principal text not null, period text not null, unit text not null, used bigint not null,
        touched double precision not null, unique (principal, period, unit))""",
    "create index oc_spend_touched on oc_spend (touched)",
)
"""Tokens used, by principal and period. Each turn adds to them with its outcome."""

THREADS = (
    """create table oc_thread (
        principal text not null, id text not null, token text, until double precision,
        last bigint not null default 0, settled bigint not null default 0, model text,
        active text not null default 'null', touched double precision not null, primary key (principal, id))""",
    "create index oc_thread_token on oc_thread (token) where token is not null",
    "create index oc_thread_touched on oc_thread (touched)",
    """create table oc_frame (
        principal text not null, thread text not null, first bigint not null, last bigint not null, body text not null,
        primary key (principal, thread, first))""",
    """create table oc_signal (
        n {serial}, principal text not null, token text not null, body text not null, created double precision not null)""",
    "create index oc_signal_token on oc_signal (token)",
    "create index oc_signal_created on oc_signal (created)",
)
"""Threads of the chat WebSocket: the turn that holds each, its frames, and the signals sent to it."""

COMPRESSED_FRAMES: Sequence[str] = ()
"""From this version on, SQLite stores a large batch of events as bytes, which earlier versions cannot read."""

MIGRATIONS: Sequence[Sequence[str]] = (
    FIRST,
    APPROVAL_AGENTS,
    APPROVAL_REQUESTS,
    STATES,
    OUTBOX,
    NEXT_TURNS,
    GRANTS,
    SETTINGS,
    SPENDS,
    THREADS,
    COMPRESSED_FRAMES,
)
"""The statements that change the schema from version n to n + 1."""


def migrate(dialect: Dialect, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> Transaction[int]:
    """Bring the schema up to date and return the version it had. Processes that start together wait for each other.

    Raises UnusableStore for the database of another program, or of a newer version of the library.
    """
    yield dialect.exclusive, ()  # SQLite needs none: it has one writer at a time
    tables = yield dialect.tables, ()
    version = yield from _read_or_create_version({str(row[0]) for row in tables}, dialect)
    if version > len(migrations):
        text = f"The store was written by a newer version: its schema is {version}, known here is {len(migrations)}."
        raise UnusableStore(text)
    # All in one transaction: a process that dies in the middle leaves the schema as it was.
    for migration in migrations[version:]:
        for statement in migration:
            yield statement.replace("{serial}", dialect.serial), ()
    if version < len(migrations):
        yield f"update {VERSION_TABLE} set version = $1", (len(migrations),)
    return version


def _read_or_create_version(tables: AbstractSet[str], dialect: Dialect) -> Transaction[int]:
    if VERSION_TABLE in tables:
        rows = yield f"select version from {VERSION_TABLE}", ()
        return int(rows[0][0])
    if dialect.own_database:
        refuse_foreign(tables)
    yield f"create table {VERSION_TABLE} (version bigint not null)", ()
    yield f"insert into {VERSION_TABLE} (version) values (0)", ()
    return 0


def refuse_foreign(tables: AbstractSet[str]) -> None:
    """Raise UnusableStore if the file is the database of another program."""
    if tables and VERSION_TABLE not in tables:
        raise UnusableStore("The store's file is the database of another program.")
