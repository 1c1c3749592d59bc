"""Conversations in SQL: a row with the lock, and a row for each item."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial

from ..policies.limits import LEASE
from .engine import Autocommit, Row, Statement, Transaction
from .port import AgentState, Conversation, ConversationPage, Item, Key, Order, Page
from .sql_dialect import Dialect
from .sql_part import SqlPart, atomic, autocommit, autocommit_nosync
from .sql_states import mark_state_gone, state_column, to_state, write_states
from .sql_text import key_columns, metadata_column, string, text

STATE = state_column("conversation")

CLEAR_WANT = "wanted = case when oc_conversation.wanted = $3 then null else oc_conversation.wanted end"
"""Clears a turn's registration once that turn gets the conversation."""

WANT = """
    update oc_conversation set wanted = $3, wanting = {now} + $4 where principal = $1 and id = $2"""

WANTED_BY_ANOTHER = "wanted <> $3 and wanting > {now}"

# One statement inserts the row, or takes the lock of an existing row, and reads it: a turn begins with one round trip.
LOCK = f"""
    insert into oc_conversation (principal, id, token, until, created, touched, metadata)
    values ($1, $2, $3, {{now}} + $4, {{now}}, {{now}}, '{{}}')
    on conflict (principal, id) do update
        set token = excluded.token, until = excluded.until, touched = excluded.touched, {CLEAR_WANT}
        where oc_conversation.token is null or oc_conversation.token = excluded.token
    returning version, created, touched, metadata, {STATE}"""

# For a conversation that must exist: an insert would create one that nobody requested.
LOCK_KNOWN = f"""
    update oc_conversation set token = $3, until = {{now}} + $4, touched = {{now}}, {CLEAR_WANT}
    where principal = $1 and id = $2 and kept = 1 and (token is null or token = $3)
    returning version, created, touched, metadata, {STATE}"""

EXPIRED = "select token from oc_conversation where principal = $1 and id = $2 and until < {now} "

TAKE_OVER = f"""
    update oc_conversation set token = $3, until = {{now}} + $4, touched = {{now}}, {CLEAR_WANT} where principal = $1 and id = $2
    returning version, created, touched, metadata, {STATE}"""

MARK_LOST = """
    insert into oc_turn (token, principal, lost, ended) values ($1, $2, 1, {now})
    on conflict (token) do nothing"""
"""Ends the turn with this token: the turn can no longer commit, even if it holds other locks."""

FORGET_TURNS = """
    update oc_turn set conversation = null, transcript = null where principal = $1 and conversation = $2"""
"""Not deleted: a commit whose answer was lost is repeated, and must find its row. The sweep deletes these rows."""

KNOWN = "where principal = $1 and id = $2 and kept = 1"

NEVER_USED = "kept = 0 and token is null"

NOT_DELETED = "body <> ''"
"""A deleted item keeps its row, so that a page can begin after it."""

WHERE_ITEM = "where principal = $1 and conversation = $2 and id = $3"


class SqlConversations(SqlPart):
    """ConversationStore on an engine, with a row for each conversation, item and turn."""

    async def begin(self, key: Key, token: str, lease: float = LEASE, *, known: bool = False) -> Conversation | None:
        # Nearly always the lock is free, and one statement without a transaction takes it.
        free = await self._take_free(key, token, lease, known)
        return free or await self._take_over(key, token, lease, known)

    # No lock outlives a power failure anyway, so this need not wait for the disk.
    @autocommit_nosync
    def _take_free(self, key: Key, token: str, lease: float, known: bool) -> Transaction[Conversation | None]:
        rows = yield (LOCK_KNOWN if known else LOCK) + self.dialect.items, (*key_columns(key), token, lease)
        return (yield from _read_with_items(key, rows[0])) if rows else None

    @atomic
    def _take_over(self, key: Key, token: str, lease: float, known: bool) -> Transaction[Conversation | None]:
        """Take the lock from a turn whose lease has expired. That turn has lost its lock and can no longer commit."""
        expired = yield f"{EXPIRED} {'and kept = 1' if known else ''} {self.dialect.lock}", key_columns(key)
        if not expired:
            return None
        rows = yield TAKE_OVER, (*key_columns(key), token, lease)
        # The other process may only have been frozen, and would commit after it resumes.
        yield MARK_LOST, (expired[0][0], text(key.principal))
        return (yield from _read_with_items(key, rows[0]))

    # The token is part of the condition: a turn that has lost the lock must not release it for the current holder.
    @autocommit
    def release(self, key: Key, token: str) -> Transaction[None]:
        rows = yield (
            """update oc_conversation set token = null, until = null, touched = {now}
            where principal = $1 and id = $2 and token = $3 returning kept""",
            (*key_columns(key), token),
        )
        if rows and not rows[0][0]:
            # Another turn may have locked it in between.
            yield f"delete from oc_conversation where principal = $1 and id = $2 and {NEVER_USED}", key_columns(key)

    @autocommit_nosync
    def want(self, key: Key, token: str, seconds: float, *, newest: bool) -> Transaction[bool]:
        if newest:
            yield WANT, (*key_columns(key), token, seconds)
            return True
        free = f"{WANT} and not coalesce({WANTED_BY_ANOTHER}, false) returning id"
        if (yield free, (*key_columns(key), token, seconds)):
            return True
        # The row may be gone, if the turn that held it stored nothing.
        rows = yield (
            f"select 1 from oc_conversation where principal = $1 and id = $2 and {WANTED_BY_ANOTHER}",
            (*key_columns(key), token),
        )
        return not rows

    async def create(
        self,
        principal: str,
        id: str,
        metadata: Mapping[str, str],
        items: Sequence[Item],
        state: AgentState | None = None,
    ) -> Conversation:
        transaction = partial(self._create, principal, id, metadata, items, state)
        return await self.run(transaction if items else Autocommit(transaction))

    def _create(
        self,
        principal: str,
        id: str,
        metadata: Mapping[str, str],
        items: Sequence[Item],
        state: AgentState | None,
    ) -> Transaction[Conversation]:
        key = Key(principal, id)
        rows = yield (
            """insert into oc_conversation (principal, id, version, last_item, kept, created, touched, metadata)
            values ($1, $2, $3, $4, 1, {now}, {now}, $5) returning version, created, touched, metadata""",
            (*key_columns(key), int(bool(items)), len(items), metadata_column(metadata)),
        )
        if items:
            yield add_items(self.dialect, key, "0", items)
        if state is not None:
            yield write_states(principal, [state])
        return _to_conversation(id, rows[0], tuple(items), state)

    @autocommit
    def read(self, key: Key, *, items: bool = True) -> Transaction[Conversation | None]:
        rows = yield (
            f"select version, created, touched, metadata, {STATE} from oc_conversation {KNOWN}",
            key_columns(key),
        )
        if not rows:
            return None
        *row, state = rows[0]
        found = (yield from _read_items(key)) if items else ()
        left = None if state is None else to_state("conversation", key.id, state)
        return _to_conversation(key.id, row, found, left)

    @autocommit
    def update(self, key: Key, metadata: Mapping[str, str]) -> Transaction[Conversation | None]:
        rows = yield (
            f"""update oc_conversation set metadata = $3, touched = {{now}} {KNOWN}
            returning version, created, touched, metadata""",
            (*key_columns(key), metadata_column(metadata)),
        )
        return _to_conversation(key.id, rows[0], ()) if rows else None

    @atomic
    def delete(self, key: Key) -> Transaction[bool]:
        rows = yield (
            "delete from oc_conversation where principal = $1 and id = $2 returning kept, token",
            key_columns(key),
        )
        if not rows:
            return False
        kept, token = rows[0]
        yield "delete from oc_item where principal = $1 and conversation = $2", key_columns(key)
        yield FORGET_TURNS, key_columns(key)
        yield mark_state_gone("conversation", key_columns(key))
        # A running turn must not recreate the conversation with its commit.
        if token is not None:
            yield MARK_LOST, (token, text(key.principal))
        return bool(kept)

    @autocommit
    def find(self, principal: str, transcript: str) -> Transaction[tuple[str, bool] | None]:
        """The conversation that once had this transcript: first one where it is still current, then the newest."""
        rows = yield (
            """select t.conversation, case when t.version = c.version then 1 else 0 end as standing
            from oc_turn t join oc_conversation c on c.principal = t.principal and c.id = t.conversation
            where t.principal = $1 and t.transcript = $2 order by standing desc, t.ended desc limit 1""",
            (text(principal), transcript),
        )
        return (string(rows[0][0]), bool(rows[0][1])) if rows else None

    @autocommit
    def conversations(
        self,
        principal: str,
        labels: Mapping[str, str],
        limit: int,
        offset: int = 0,
        before: tuple[float, str] | None = None,
    ) -> Transaction[ConversationPage]:
        where, parameters = "principal = $1 and kept = 1", [text(principal)]
        for name, value in labels.items():
            # Searched in the metadata's JSON text, as the first or a later member: this works the same in both engines.
            written = metadata_column({name: value})[1:-1]
            at = len(parameters) + 1
            where += f" and (replace(metadata, ${at}, '') <> metadata or replace(metadata, ${at + 1}, '') <> metadata)"
            parameters += ["{" + written, ", " + written]
        counted = yield f"select count(*) from oc_conversation where {where}", parameters
        bound, more = "", [*parameters, limit, offset]
        at = len(parameters)
        if before is not None:
            bound = f"and (touched < ${at + 3} or (touched = ${at + 3} and id < ${at + 4}))"
            more += [before[0], text(before[1])]
        rows = yield (
            f"""select id, version, created, touched, metadata from oc_conversation where {where} {bound}
            order by touched desc, id desc limit ${at + 1} offset ${at + 2}""",
            more,
        )
        return ConversationPage(
            tuple([_to_conversation(string(row[0]), row[1:], ()) for row in rows]), int(counted[0][0])
        )

    @autocommit
    def page(self, key: Key, after: str | None, limit: int, order: Order) -> Transaction[Page | None]:
        """Items after the item with the id `after`. One extra row is read, to know if others follow."""
        # The extra row shows if others follow.
        bound, parameters = "", [*key_columns(key), limit + 1]
        if after is not None:
            rows = yield (f"select n from oc_item {WHERE_ITEM}", (*key_columns(key), text(after)))
            if not rows:
                return None
            bound = f"and n {'>' if order == 'asc' else '<'} $4"
            parameters.append(rows[0][0])
        rows = yield (
            f"""select id, body from oc_item where principal = $1 and conversation = $2 and {NOT_DELETED} {bound}
            order by n {order} limit $3""",
            parameters,
        )
        return Page(_to_items(rows[:limit]), len(rows) > limit)

    @autocommit
    def item(self, key: Key, item: str) -> Transaction[Item | None]:
        rows = yield f"select body from oc_item {WHERE_ITEM} and {NOT_DELETED}", (*key_columns(key), text(item))
        return Item(item, rows[0][0]) if rows else None

    @atomic
    def delete_item(self, key: Key, item: str) -> Transaction[bool]:
        """Empty an item; its row stays, so that a page can begin after it."""
        rows = yield (
            f"update oc_item set body = '' {WHERE_ITEM} and {NOT_DELETED} returning n",
            (*key_columns(key), text(item)),
        )
        if rows:
            yield mark_state_gone("conversation", key_columns(key))  # the state may mention the item
        return bool(rows)


def _read_with_items(key: Key, row: Row) -> Transaction[Conversation]:
    version, created, touched, metadata, state, *seen = row
    items: tuple[Item, ...] = ()
    # The statement may have waited for another turn's commit, in which case it did not see that turn's items.
    if seen and seen[0] == version:
        items = _to_items(seen[1] or ())
    elif version:
        items = yield from _read_items(key)
        if seen:
            state = (yield f"select {STATE}", key_columns(key))[0][0]
    left = None if state is None else to_state("conversation", key.id, state)
    return _to_conversation(key.id, (version, created, touched, metadata), items, left)


def _read_items(key: Key) -> Transaction[tuple[Item, ...]]:
    rows = yield (
        f"select id, body from oc_item where principal = $1 and conversation = $2 and {NOT_DELETED} order by n",
        key_columns(key),
    )
    return _to_items(rows)


def _to_items(rows: Sequence[Row]) -> tuple[Item, ...]:
    return tuple([Item(string(id_), body) for id_, body in rows])


def _to_conversation(id_: str, row: Row, items: tuple[Item, ...], state: AgentState | None = None) -> Conversation:
    version, created, touched, metadata = row
    return Conversation(id_, version, created, touched, json.loads(metadata), items, state)


def add_items(dialect: Dialect, key: Key, last: str, items: Sequence[Item]) -> Statement:
    """Append items after the number given by the expression `last`. An item with an existing id is replaced in place.

    A deleted item counts as new.
    """
    # One statement must not change a row twice, so the last of several items with the same id wins.
    different = {item.id: item for item in items}.values()
    return (
        f"""insert into oc_item (principal, conversation, n, id, body)
            select $1, $2, {last} + added.n, added.id, added.body from {dialect.pairs} added where true
        on conflict (principal, conversation, id) do update set
            body = excluded.body, n = case when oc_item.body = '' then excluded.n else oc_item.n end""",
        (*key_columns(key), json.dumps([(text(item.id), item.body) for item in different])),
    )
