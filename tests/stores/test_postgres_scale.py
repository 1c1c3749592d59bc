"""No store operation scans a whole table, however many rows of other principals it contains."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from openai_compat.stores.port import (
    AgentState,
    Approval,
    Charge,
    ConversationTurn,
    Events,
    Item,
    Key,
    StoredCompletion,
    StoredFile,
    StoredResponse,
    TurnCommit,
)
from openai_compat.stores.postgres import PostgresEngine
from openai_compat.stores.sql import SqlStore
from tests.stores.postgres_cluster import Cluster

pytestmark = pytest.mark.anyio

ROWS = 5000
FILL = f"""
    insert into oc_conversation (principal, id, version, last_item, kept, created, touched, metadata)
        select 'bob', 'c' || i, 1, 1, 1, i, extract(epoch from now()), '{{}}' from generate_series(1, {ROWS}) i;
    insert into oc_item select 'bob', 'c' || i, 1, 'm' || i, '{{}}' from generate_series(1, {ROWS}) i;
    insert into oc_turn (token, principal, conversation, version, transcript, ended)
        select 't' || i, 'bob', 'c' || i, 1, 'h' || i, extract(epoch from now()) from generate_series(1, {ROWS}) i;
    insert into oc_response (principal, id, created, status, background, touched, body, input, output)
        select 'bob', 'r' || i, i, 'completed', 0, extract(epoch from now()), '{{}}', '[]', '[]'
        from generate_series(1, {ROWS}) i;
    insert into oc_event select 'bob', 'r' || i, 0, 9, '' from generate_series(1, {ROWS}) i;
    insert into oc_completion (principal, id, created, touched, model, metadata, body, messages)
        select 'bob', 'x' || i, i, extract(epoch from now()), 'm', '{{}}', '{{}}', '[]' from generate_series(1, {ROWS}) i;
    insert into oc_file (principal, id, created, touched, filename, purpose, media_type, size, content)
        select 'bob', 'f' || i, i, extract(epoch from now()), 'n', 'p', 't', 0, '' from generate_series(1, {ROWS}) i;
    insert into oc_approval (principal, id, created, expires, turn, call_id, tool, arguments, digest, state, status, decision)
        select 'bob', 'a' || i, i, extract(epoch from now()) + 999, 't', 'call', 't', '', '', '', 'pending', ''
        from generate_series(1, {ROWS}) i;
    insert into oc_claim (principal, id, request, token, until, touched, status)
        select 'bob', 'k' || i, 'q', 't' || i, 0, extract(epoch from now()), 200 from generate_series(1, {ROWS}) i;
    insert into oc_state (principal, kind, id, session, body, expires, touched)
        select 'bob', 'pause', 'p' || i, 's' || i, '{{}}', extract(epoch from now()) + 999, extract(epoch from now())
        from generate_series(1, {ROWS}) i;
    insert into oc_outbox (id, principal, target, body, due, created)
        select 'w' || i, 'bob', 'other', '{{}}', extract(epoch from now()) + 999, extract(epoch from now())
        from generate_series(1, {ROWS}) i;
    insert into oc_grant (principal, id, agent, tool, body, created)
        select 'bob', 'g' || i, 'a', 't' || i, '{{}}', extract(epoch from now()) from generate_series(1, {ROWS}) i;
    insert into oc_spend (principal, period, unit, used, touched)
        select 'bob' || i, 'day', 'tokens', 1, extract(epoch from now()) from generate_series(1, {ROWS}) i;
    insert into oc_thread (principal, id, token, until, last, touched)
        select 'bob', 't' || i, 't' || i, extract(epoch from now()) + 999, 9, extract(epoch from now())
        from generate_series(1, {ROWS}) i;
    insert into oc_frame select 'bob', 't' || i, 1, 9, '' from generate_series(1, {ROWS}) i;
    insert into oc_signal (principal, token, body, created)
        select 'bob', 't' || i, '{{}}', extract(epoch from now()) from generate_series(1, {ROWS}) i;
    insert into oc_rate select 'bob', 'l' || i, extract(epoch from now()) from generate_series(1, {ROWS}) i
"""


@pytest.fixture
def anyio_backend() -> str:
    """asyncpg works on asyncio only."""
    return "asyncio"


async def test_no_operation_reads_a_whole_table(postgres: Cluster, postgres_url: str, postgres_database: str) -> None:
    store = SqlStore(PostgresEngine(postgres_url))
    await store.check()
    await store.aclose()  # a connection's reads are counted at its end at the latest
    postgres.sql(FILL, postgres_database)
    postgres.sql("analyze", postgres_database)  # as the server does on its own, some time later
    before = scans(postgres, postgres_database)
    await everything(store)
    await store.aclose()
    assert scans(postgres, postgres_database) == before


def scans(postgres: Cluster, database: str) -> dict[str, int]:
    """How often each table was scanned as a whole, except slots, which are few."""
    counted = postgres.sql("select relname, seq_scan from pg_stat_user_tables where relname like 'oc_%'", database)
    found = dict([line.split("|") for line in counted])
    return {table: int(count) for table, count in found.items() if table not in ("oc_slot", "oc_schema")}


async def everything(store: SqlStore) -> None:
    """All operations of turns and around them, for a principal with little data."""
    alice, key = "alice", Key("alice", "trip")
    response = StoredResponse(id="resp", created=1.0, status="in_progress", body="{}")
    left = AgentState(of="conversation", id="trip", agent="a", session="s", body="{}", turn=1)
    after, waiting = (
        replace(left, of="response", id="resp"),
        replace(left, of="pause", id="p", expires=time.time() + 99),
    )
    states = (left, after, waiting)
    assert await store.claim(key, "request", "t") == "taken"
    assert await store.take_slot("pool", "t", 4)
    assert await store.begin(key, "t") is not None
    await store.begin_response(alice, response, "t")
    assert (await store.renew(["t"], lease=60)).held == {"t"}
    assert await store.append([(Key(alice, "resp"), "t", Events(0, 9, b""))])
    assert await store.commit(
        TurnCommit(
            principal=alice,
            token="t",
            conversation=ConversationTurn("trip", (Item("i1", "{}"), Item("i2", "{}")), "transcript"),
            response=replace(response, status="completed"),
            events=Events(10, 19, b""),
            completion=StoredCompletion("x", 1.0, "m", {}, "{}", "[]"),
            states=states,
            charges=(Charge("tokens", 1.0),),
        )
    )
    await store.settle(key, "t", None)
    await store.free_slot("pool", "t")
    await store.allow(key, 10, 5)
    assert await store.ahead(Key(alice, "tokens")) > 0
    await _reads(store, key)
    await _objects(store, alice)
    assert await store.delete_response(Key(alice, "resp"))
    assert await store.delete(key)
    assert await store.gone_states(None, 10) == []
    await store.forget_state(Key(alice, "x"))
    await store.sweep()


async def _reads(store: SqlStore, key: Key) -> None:
    assert await store.find("alice", "transcript") == ("trip", True)
    assert await store.read(key) is not None
    page = await store.page(key, "i1", 10, "asc")
    assert page is not None
    assert [item.id for item in page.items] == ["i2"]
    assert await store.item(key, "i1") is not None
    chain = await store.chain(Key("alice", "resp"))
    assert chain is not None
    assert chain.state is not None
    assert await store.use_pause(Key("alice", "p"), 60)
    await store.return_pause(Key("alice", "p"))
    assert await store.pause(Key("alice", "p")) is not None
    assert len(await store.events(Key("alice", "resp"), -1)) == 2
    assert len(await store.list_completions("alice")) == 1
    assert await store.get_completion(Key("alice", "x")) is not None


async def _objects(store: SqlStore, alice: str) -> None:
    await store.put_file(alice, StoredFile(id="f", created=1.0, filename="n", purpose="p", media_type="t", size=0), b"")
    assert await store.file_content(Key(alice, "f")) == b""
    assert len(await store.list_files(alice)) == 1
    assert await store.delete_file(Key(alice, "f"))
    soon = time.time() + 100
    question = Approval(
        id="a",
        created=1.0,
        expires=soon,
        turn="t",
        conversation="trip",
        call_id="call",
        tool="x",
        arguments="{}",
        digest="d",
    )
    await store.ask(alice, question)
    assert len(await store.approvals(alice)) == 1
    assert await store.decide(Key(alice, "a"), "approved", "null")
