"""PostgreSQL stopping, restarting, freezing, refusing, and losing answers, under the store."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress

import anyio
import pytest

from openai_compat.errors import Unavailable
from openai_compat.stores.engine import Autocommit, Result, Transaction
from openai_compat.stores.port import ConversationTurn, Item, Key, TurnCommit
from openai_compat.stores.postgres import PostgresEngine
from openai_compat.stores.sql import SqlStore
from tests.stores.postgres_cluster import Cluster, wait_until
from tests.stores.postgres_proxy import proxy
from tests.stores.statements import rows

pytestmark = pytest.mark.anyio
ALICE = Key("alice", "trip")


@pytest.fixture
def anyio_backend() -> str:
    """asyncpg works on asyncio only."""
    return "asyncio"


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[SqlStore]:
    async with opened(PostgresEngine(f"{postgres_url}?timeout=1")) as made:
        yield made


@asynccontextmanager
async def opened(engine: PostgresEngine) -> AsyncIterator[SqlStore]:
    made = SqlStore(engine)
    yield made
    await made.aclose()


def outcome(token: str, key: Key = ALICE) -> TurnCommit:
    item = Item(f"msg_{token}", f'{{"id": "msg_{token}"}}')
    return TurnCommit(principal=key.principal, token=token, conversation=ConversationTurn(key.id, (item,)))


async def turn(store: SqlStore, token: str, key: Key = ALICE) -> None:
    assert await store.begin(key, token) is not None
    assert await store.commit(outcome(token, key))


async def turns(store: SqlStore, key: Key = ALICE) -> list[str]:
    found = await store.read(key)
    return [item.id.removeprefix("msg_") for item in found.items] if found is not None else []


@asynccontextmanager
async def lively_loop() -> AsyncIterator[None]:
    """The event loop is never blocked."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        yield
        tasks.cancel_scope.cancel()
    assert longest < 0.5


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


# stopped


async def test_a_store_whose_engine_is_down_says_so_at_once_and_works_when_it_is_up(
    postgres: Cluster, store: SqlStore
) -> None:
    with postgres.down():
        for _ in range(2):
            async with within(1):
                with pytest.raises(Unavailable) as caught:
                    await store.begin(ALICE, "t")
            assert (caught.value.status, caught.value.code) == (503, "store_unavailable")
            assert caught.value.retry_after
    await turn(store, "first")
    assert await turns(store) == ["first"]


async def test_an_address_where_nothing_answers_is_given_up_after_the_time_limit(postgres_url: str) -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silence, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    async with opened(PostgresEngine(f"postgresql://owner@127.0.0.1:{port}/x?timeout=0.3")) as store:
        async with within(1), lively_loop():
            with pytest.raises(Unavailable, match="cannot be used"):
                await store.check()
    server.close()
    await server.wait_closed()


async def test_a_restart_between_turns_is_not_noticed(postgres: Cluster, store: SqlStore) -> None:
    await turn(store, "first")
    await asyncio.to_thread(postgres.restart)
    await turn(store, "second")
    assert await turns(store) == ["first", "second"]


async def test_a_kill_between_turns_is_not_noticed(postgres: Cluster, store: SqlStore) -> None:
    await turn(store, "first")
    await asyncio.to_thread(postgres.kill)
    await asyncio.to_thread(postgres.start)
    await turn(store, "second")
    assert await turns(store) == ["first", "second"]


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_turn_committed_while_the_engine_restarts_is_kept(postgres: Cluster, store: SqlStore, how: str) -> None:
    assert await store.begin(ALICE, "t") is not None
    getattr(postgres, how)()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asyncio.to_thread, postgres.start)
        assert await store.commit(outcome("t"))
    assert await turns(store) == ["t"]


class Client:
    """Runs turn after turn in its own conversation, and remembers the acknowledged ones."""

    def __init__(self, store: SqlStore, name: str) -> None:
        self.key = Key("alice", name)
        self.acknowledged: list[str] = []
        self.refused = 0
        self.leaves = False
        self._store = store

    async def run(self) -> None:
        for number in itertools.count():
            if self.leaves:
                return
            token = f"{self.key.id}-{number}"
            try:
                await self._turn(token)
            except Unavailable:
                self.refused += 1
                with suppress(Unavailable):
                    await self._store.release(self.key, token)
                await asyncio.sleep(0.05)

    async def _turn(self, token: str) -> None:
        if await self._store.begin(self.key, token, 1.0) is None:
            await asyncio.sleep(0.05)
        elif await self._store.commit(outcome(token, self.key)):
            self.acknowledged.append(token)

    async def gets_on(self) -> None:
        """Return after another turn."""
        before = len(self.acknowledged)
        while len(self.acknowledged) == before:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_every_turn_that_was_acknowledged_survives_the_engine(
    postgres: Cluster, postgres_url: str, how: str
) -> None:
    async with opened(PostgresEngine(f"{postgres_url}?timeout=1")) as store:
        clients = [Client(store, f"trip {number}") for number in range(8)]
        async with anyio.create_task_group() as tasks:
            for client in clients:
                tasks.start_soon(client.run)
            for _ in range(2):
                await clients[0].gets_on()
                await asyncio.to_thread(getattr(postgres, how))
                await asyncio.to_thread(postgres.start)
                with anyio.fail_after(10):
                    for client in clients:
                        await client.gets_on()
            for client in clients:
                client.leaves = True
        assert sum([client.refused for client in clients])
        for client in clients:
            stored = await turns(store, client.key)
            assert len(set(stored)) == len(stored)
            assert [token for token in stored if token in client.acknowledged] == client.acknowledged


# frozen


async def test_a_frozen_engine_is_given_up_in_time_and_used_again_when_it_thaws(
    postgres: Cluster, store: SqlStore
) -> None:
    await turn(store, "first")
    with postgres.frozen():
        async with within(4), lively_loop():
            with pytest.raises(Unavailable) as caught:
                await store.begin(ALICE, "second")
        async with within(2), lively_loop():
            with pytest.raises(Unavailable):
                await store.check()
    assert caught.value.code in ("store_unavailable", "store_outcome_unknown")
    await store.release(ALICE, "second")
    await turn(store, "third")
    assert await turns(store) == ["first", "third"]


async def test_a_chain_of_responses_that_is_only_read_is_never_in_doubt(postgres: Cluster, store: SqlStore) -> None:
    assert await store.chain(Key("alice", "resp_1")) is None
    with postgres.frozen(), pytest.raises(Unavailable) as caught:
        await store.chain(Key("alice", "resp_1"))
    assert caught.value.code == "store_unavailable"


async def test_a_turn_that_a_frozen_engine_has_taken_is_there_once_when_it_thaws(
    postgres: Cluster, store: SqlStore
) -> None:
    assert await store.begin(ALICE, "t") is not None
    postgres.freeze()
    async with anyio.create_task_group() as tasks:

        async def thaw() -> None:
            await asyncio.sleep(1.5)
            postgres.thaw()

        tasks.start_soon(thaw)
        committed = await store.commit(outcome("t"))
    assert committed
    assert await turns(store) == ["t"]


async def test_a_statement_that_was_given_up_is_not_done_later(postgres: Cluster, postgres_url: str) -> None:
    """It waits for a locked row: once its caller has given up, it must not keep waiting in the server."""
    add = rows("update counter set n = n + 1 returning n")

    def holding() -> Transaction[None]:
        yield "update counter set n = 0", ()
        yield "select pg_sleep(1.0)", ()

    patient, hasty = PostgresEngine(postgres_url), PostgresEngine(f"{postgres_url}?timeout=0.2")
    await patient.run(rows("create table counter as select 0 as n"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(patient.run, holding)
        await asyncio.sleep(0.1)
        with pytest.raises(Unavailable) as caught:
            await hasty.run(add)
    assert caught.value.code == "store_outcome_unknown"
    assert await patient.run(add) == [(1,)]
    await hasty.aclose()
    await patient.aclose()


# refusing


async def test_a_read_only_server_serves_what_it_can_and_all_when_it_is_the_primary_again(
    postgres: Cluster, postgres_database: str, store: SqlStore
) -> None:
    await turn(store, "first")
    postgres.sql(f"alter database {postgres_database} set default_transaction_read_only = on")
    await asyncio.to_thread(postgres.cut_connections, postgres_database)
    with pytest.raises(Unavailable) as caught:
        await store.begin(ALICE, "second")
    assert caught.value.code == "store_unavailable"
    assert await turns(store) == ["first"]
    postgres.sql(f"alter database {postgres_database} reset default_transaction_read_only")
    await asyncio.to_thread(postgres.cut_connections, postgres_database)
    await turn(store, "second")
    assert await turns(store) == ["first", "second"]


TROUBLE = """
    create function trouble() returns trigger language plpgsql as
        $$ begin raise exception 'told to nobody' using errcode = '{}'; end $$;
    create trigger trouble before insert on {} execute function trouble()"""


async def test_a_commit_that_meets_a_server_in_trouble_is_not_half_done_and_can_be_repeated(
    postgres: Cluster, postgres_database: str, store: SqlStore
) -> None:
    """The server is out of memory at the last statement of the commit, after the other statements."""
    await turn(store, "first")
    assert await store.begin(ALICE, "second") is not None
    postgres.sql(TROUBLE.format("53200", "oc_turn"), postgres_database)
    with pytest.raises(Unavailable) as caught:
        await store.commit(outcome("second"))
    assert caught.value.code == "store_unavailable"
    assert "told to nobody" not in caught.value.message
    assert await turns(store) == ["first"]
    postgres.sql("drop trigger trouble on oc_turn", postgres_database)
    assert await store.commit(outcome("second"))
    assert await turns(store) == ["first", "second"]


@pytest.mark.parametrize(
    "state",
    [
        pytest.param("08006", id="a pooler lost the server"),
        pytest.param("42501", id="rights taken away"),
        pytest.param("53100", id="disk full"),
        pytest.param("55P03", id="lock not to be had"),
        pytest.param("57014", id="cancelled by an administrator"),
        pytest.param("58030", id="input and output error"),
        pytest.param("XX000", id="internal error"),
    ],
)
async def test_what_is_wrong_with_the_server_is_an_outage_and_what_was_done_before_is_undone(
    postgres: Cluster, postgres_url: str, postgres_database: str, state: str
) -> None:
    def transaction() -> Transaction[None]:
        yield "update counter set n = n + 1", ()
        yield "insert into troubled values (1)", ()

    engine = PostgresEngine(postgres_url)
    tables = "create table counter as select 0 as n; create table troubled (n int);"
    postgres.sql(tables + TROUBLE.format(state, "troubled"), postgres_database)
    with pytest.raises(Unavailable, match="cannot be used"):
        await engine.run(transaction)
    assert await engine.run(rows("select n from counter")) == [(0,)]
    await engine.aclose()


async def test_a_wrong_password_is_an_outage_that_does_not_tell_it(postgres: Cluster, postgres_database: str) -> None:
    postgres.sql("create role guarded login password 'right'")
    url = postgres.url(postgres_database, "guarded:wrong-secret")
    async with opened(PostgresEngine(url)) as store:
        with pytest.raises(Unavailable) as caught:
            await store.check()
    assert caught.value.code == "store_unavailable"
    assert "secret" not in repr(caught.value)
    postgres.sql("drop role guarded")


async def test_a_database_that_is_not_there_yet_is_an_outage_until_it_is(postgres: Cluster) -> None:
    async with opened(PostgresEngine(postgres.url("later"))) as store:
        with pytest.raises(Unavailable):
            await store.check()
        postgres.sql("create database later")
        await turn(store, "first")
    postgres.drop_database("later")


async def test_tables_that_were_lost_are_made_again(postgres: Cluster, postgres_database: str, store: SqlStore) -> None:
    """A database that was restored empty requires no restart of its users."""
    await turn(store, "first")
    postgres.sql("drop schema public cascade; create schema public", postgres_database)
    with pytest.raises(Unavailable):
        await turns(store)
    await turn(store, "second")
    assert await turns(store) == ["second"]


# cut at every statement


class Interrupted(PostgresEngine):
    """Runs an interruption before statement `at` of a transaction, or, if it has fewer, before its commit.

    A transaction without a commit must have at least `at` statements.
    """

    def __init__(self, url: str, interrupt: Callable[[], object], at: int) -> None:
        super().__init__(url)
        self._interrupt = interrupt
        self._at = at
        self.armed = False

    async def run(self, transaction: Callable[[], Transaction[Result]]) -> Result:
        if not self.armed:
            return await super().run(transaction)
        cut = self._cut(transaction)
        return await super().run(Autocommit(cut) if isinstance(transaction, Autocommit) else cut)

    def _cut(self, transaction: Callable[[], Transaction[Result]]) -> Callable[[], Transaction[Result]]:
        interrupts: Iterator[Callable[[], object]] = iter([self._interrupt])  # once only: a retry succeeds

        def cut() -> Transaction[Result]:
            statements = transaction()
            rows = None
            for number in itertools.count(1):
                try:
                    statement = statements.send(rows) if rows is not None else next(statements)
                except StopIteration as end:
                    if number <= self._at and not isinstance(transaction, Autocommit):
                        next(interrupts, _nothing)()
                    return end.value
                if number == self._at:
                    next(interrupts, _nothing)()
                rows = yield statement
            raise AssertionError

        return cut


def _nothing() -> None:
    """Do nothing."""


async def test_a_connection_cut_before_a_turns_statements_loses_no_turn_and_leaves_none_half_done(
    postgres: Cluster, postgres_url: str, postgres_database: str
) -> None:
    cuts: list[int] = []
    engine = Interrupted(postgres_url, lambda: cuts.append(postgres.cut_connections(postgres_database)), 1)
    async with opened(engine) as store:
        await turn(store, "first")
        engine.armed = True
        await turn(store, "second")
        engine.armed = False
        await turn(store, "third")
        assert await turns(store) == ["first", "second", "third"]
    assert any(cuts)


@pytest.mark.parametrize("at", range(1, 6))
async def test_a_connection_cut_at_any_statement_leaves_no_conversation_half_deleted(
    postgres: Cluster, postgres_url: str, postgres_database: str, at: int
) -> None:
    cuts: list[int] = []
    engine = Interrupted(postgres_url, lambda: cuts.append(postgres.cut_connections(postgres_database)), at)
    async with opened(engine) as store:
        await turn(store, "first")
        engine.armed = True
        with suppress(Unavailable):  # if the commit was interrupted, the outcome is unknown
            assert await store.delete(ALICE)
        engine.armed = False
        # The end of a turn is stored for a while, without any of its content.
        told = "oc_turn where conversation is not null or transcript is not null"
        for table in ("oc_conversation", "oc_item", told):
            (left,) = await engine.run(rows(f"select count(*) from {table}"))
            assert (table, left[0]) == (table, 0 if await store.read(ALICE) is None else 1)
    assert any(cuts)


async def test_an_engine_killed_before_a_commit_has_the_turn_when_it_is_back(
    postgres: Cluster, postgres_url: str
) -> None:
    engine = Interrupted(postgres_url, postgres.kill, 1)
    async with opened(engine) as store:
        await turn(store, "first")
        assert await store.begin(ALICE, "second") is not None
        engine.armed = True
        async with anyio.create_task_group() as tasks:
            commit = asyncio.ensure_future(store.commit(outcome("second")))
            with anyio.fail_after(5):
                while postgres.running:
                    await asyncio.sleep(0.01)
            engine.armed = False
            tasks.start_soon(asyncio.to_thread, postgres.start)
            assert await commit
        assert await turns(store) == ["first", "second"]


# an answer that was lost


@pytest.mark.parametrize("what", ["request", "answer"])
async def test_an_engine_whose_answer_to_a_commit_is_lost_says_that_it_does_not_know(
    postgres: Cluster, postgres_database: str, what: str
) -> None:
    async with proxy(postgres.port) as line:
        engine = PostgresEngine(f"postgresql://owner@127.0.0.1:{line.port}/{postgres_database}")

        def add() -> Transaction[None]:
            yield "update counter set n = n + 1", ()
            yield "update counter set n = n + 1", ()

        await engine.run(rows("create table counter as select 0 as n"))
        line.lose(what, b"commit")
        with pytest.raises(Unavailable) as caught:
            await engine.run(add)
        assert caught.value.code == "store_outcome_unknown"
        assert line.lost == 1
        expected = 2 if what == "answer" else 0
        for _ in wait_until("the server has done it, or noticed that nobody is there"):
            if await engine.run(rows("select n from counter")) == [(expected,)]:
                break
        await engine.aclose()


@pytest.mark.parametrize("what", ["request", "answer"])
@pytest.mark.parametrize("word", [b"insert into oc_turn", b"msg_second"])  # sent to the server first, then executed
async def test_a_turn_whose_commit_was_not_answered_is_stored_once(
    postgres: Cluster, postgres_database: str, what: str, word: bytes
) -> None:
    async with proxy(postgres.port) as line:
        url = f"postgresql://owner@127.0.0.1:{line.port}/{postgres_database}?statement_cache_size=0"
        async with opened(PostgresEngine(url)) as store:
            await turn(store, "first")
            assert await store.begin(ALICE, "second") is not None
            line.lose(what, word)
            assert await store.commit(outcome("second"))
            assert line.lost == 1
            await turn(store, "third")
            assert await turns(store) == ["first", "second", "third"]


async def test_slow_answers_clients_that_leave_and_cut_connections_mix_nothing_up(
    postgres: Cluster, postgres_database: str
) -> None:
    dice = random.Random(7)
    acknowledged: dict[Key, list[str]] = {Key(f"user{number}", "trip"): [] for number in range(12)}

    async def client(store: SqlStore, key: Key) -> None:
        for number in range(6):
            token = f"{key.principal}-{number}"
            with anyio.move_on_after(dice.choice([0.01, 0.05, 0.1, 5.0])):
                try:
                    found = await store.begin(key, token)
                    assert found is not None
                    assert all([f'"msg_{key.principal}-' in item.body for item in found.items])
                    if await store.commit(outcome(token, key)):
                        acknowledged[key].append(token)
                except Unavailable:
                    pass
                finally:
                    with anyio.CancelScope(shield=True), suppress(Unavailable):
                        await store.release(key, token)

    async with proxy(postgres.port, latency=0.005) as line:
        url = f"postgresql://owner@127.0.0.1:{line.port}/{postgres_database}"
        async with opened(PostgresEngine(url)) as store:
            await store.check()
            async with anyio.create_task_group() as clients:
                for key in acknowledged:
                    clients.start_soon(client, store, key)
                for _ in range(3):
                    await asyncio.sleep(0.2)
                    await asyncio.to_thread(postgres.cut_connections, postgres_database)
            for key, tokens in acknowledged.items():
                stored = await turns(store, key)
                assert set(tokens) <= set(stored)
                assert len(stored) == len(set(stored))
                await turn(store, f"{key.principal}-last", key)
    assert any(acknowledged.values())
