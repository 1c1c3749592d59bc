"""The PostgreSQL engine: transactions, connections and event loops."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace

import anyio
import pytest

from openai_compat.errors import Unavailable
from openai_compat.stores.engine import Autocommit, Row, Transaction
from openai_compat.stores.port import Events, Key, StoredResponse, TurnCommit
from openai_compat.stores.postgres import PostgresEngine
from openai_compat.stores.sql import SqlStore
from tests.stores.postgres_cluster import Cluster, wait_until
from tests.stores.statements import rows, script

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """asyncpg works on asyncio only."""
    return "asyncio"


@pytest.fixture
async def engine(postgres_url: str) -> AsyncIterator[PostgresEngine]:
    made = PostgresEngine(postgres_url)
    yield made
    await made.aclose()


COUNTER = script("create table counter (id text primary key, n bigint not null)", "insert into counter values ('a', 0)")
ADD = "update counter set n = n + 1 where id = 'a'"


async def counted(engine: PostgresEngine) -> int:
    found = await engine.run(rows("select n from counter where id = 'a'"))
    return int(found[0][0])


def connections(postgres: Cluster, database: str) -> int:
    return int(postgres.sql(f"select count(*) from pg_stat_activity where datname = '{database}'")[0])


# transactions


async def test_a_transaction_is_sent_each_statements_rows_and_its_result_comes_back(engine: PostgresEngine) -> None:
    def transaction() -> Transaction[int]:
        (three,) = yield "select $1 + 1", (2,)
        (seven,) = yield "select $1 + 4", (three[0],)
        return int(seven[0])

    assert await engine.run(transaction) == 7


async def test_statements_of_a_transaction_happen_together(engine: PostgresEngine) -> None:
    def transaction() -> Transaction[list[int]]:
        first = yield "insert into number values (1) returning txid_current()", ()
        second = yield "insert into number values (2) returning txid_current()", ()
        return [first[0][0], second[0][0]]

    await engine.run(script("create table number (n bigint)"))
    first, second = await engine.run(transaction)
    assert first == second


async def test_an_error_of_the_transactions_own_undoes_what_was_done(engine: PostgresEngine) -> None:
    def transaction() -> Transaction[None]:
        yield ADD, ()
        raise KeyError("ours")

    await engine.run(COUNTER)
    with pytest.raises(KeyError, match="ours"):
        await engine.run(transaction)
    assert await counted(engine) == 0


async def test_an_error_in_a_statement_undoes_those_before_it(engine: PostgresEngine) -> None:
    await engine.run(COUNTER)
    with pytest.raises(Exception, match="duplicate key"):
        await engine.run(script(ADD, "insert into counter values ('a', 1)"))
    assert await counted(engine) == 0


async def test_a_statement_that_is_wrong_is_no_outage(engine: PostgresEngine) -> None:
    with pytest.raises(Exception, match="syntax error") as caught:
        await engine.run(rows("selct 1"))
    assert not isinstance(caught.value, Unavailable)


@pytest.mark.parametrize("wrap", [Autocommit, lambda transaction: transaction], ids=["autocommit", "together"])
async def test_statements_that_stand_alone_are_kept_when_a_later_one_fails(
    engine: PostgresEngine, wrap: Callable[[object], Callable[[], Transaction[None]]]
) -> None:
    await engine.run(COUNTER)
    with pytest.raises(Exception, match="duplicate key"):
        await engine.run(wrap(script(ADD, "insert into counter values ('a', 1)")))
    assert await counted(engine) == (1 if wrap is Autocommit else 0)


async def test_what_is_only_read_before_the_first_change_is_read_without_a_transaction(engine: PostgresEngine) -> None:
    def transaction() -> Transaction[list[object]]:
        before = yield "select now()", ()
        locked = yield "select now() from counter where id = 'a' for update", ()
        after = yield "select now()", ()
        return [found[0][0] for found in (before, locked, after)]

    await engine.run(COUNTER)
    before, locked, after = await engine.run(transaction)
    assert before != locked == after


async def test_the_clock_is_the_servers(engine: PostgresEngine, postgres: Cluster) -> None:
    before = float(postgres.sql("select extract(epoch from clock_timestamp())")[0])
    (found,) = await engine.run(rows("select {now}"))
    after = float(postgres.sql("select extract(epoch from clock_timestamp())")[0])
    assert isinstance(found[0], float)
    assert before <= found[0] <= after


async def test_transactions_in_each_others_way_are_begun_again(
    engine: PostgresEngine, postgres: Cluster, postgres_database: str
) -> None:
    """Each locks a row and waits for the other's: PostgreSQL ends one of them as a deadlock."""
    postgres.sql(f"alter database {postgres_database} set deadlock_timeout = '50ms'")
    await engine.run(COUNTER)
    await engine.run(rows("insert into counter values ('b', 0)"))
    begun: list[str] = []

    def crossing(first: str, second: str) -> Callable[[], Transaction[None]]:
        def transaction() -> Transaction[None]:
            begun.append(first)
            yield "update counter set n = n + 1 where id = $1", (first,)
            yield "select pg_sleep(case when $1 then 0.1 else 0 end)", (len(begun) <= 2,)
            yield "update counter set n = n + 1 where id = $1", (second,)

        return transaction

    async with anyio.create_task_group() as both:
        both.start_soon(engine.run, crossing("a", "b"))
        both.start_soon(engine.run, crossing("b", "a"))
    assert len(begun) > 2
    assert await engine.run(rows("select n from counter order by id")) == [(2,), (2,)]


async def test_transactions_that_cannot_be_put_in_an_order_are_begun_again(
    engine: PostgresEngine, postgres: Cluster, postgres_database: str
) -> None:
    await engine.run(COUNTER)
    postgres.sql(f"alter database {postgres_database} set default_transaction_isolation = 'serializable'")
    serializable = PostgresEngine(postgres.url(postgres_database))
    begun: list[int] = []

    def transaction() -> Transaction[None]:
        begun.append(1)
        found = yield "select n from counter where id = 'a' for update", ()
        yield "select pg_sleep(0.05)", ()
        yield "update counter set n = $1 where id = 'a'", (found[0][0] + 1,)

    async with anyio.create_task_group() as three:
        for _ in range(3):
            three.start_soon(serializable.run, transaction)
    await serializable.aclose()
    assert await counted(engine) == 3
    assert len(begun) > 3


async def test_statements_prepared_for_an_older_schema_are_prepared_again(engine: PostgresEngine) -> None:
    def transaction() -> Transaction[Row]:
        yield ADD, ()
        found = yield "select * from counter", ()
        return found[0]

    await engine.run(COUNTER)
    assert tuple(await engine.run(transaction)) == ("a", 1)
    await engine.run(script("alter table counter add column more bigint default 7"))
    assert tuple(await engine.run(transaction)) == ("a", 2, 7)


async def test_only_the_batches_of_an_event_log_do_not_wait_for_the_disk(
    engine: PostgresEngine, postgres: Cluster, postgres_database: str
) -> None:
    """A trigger on each table records how the transaction that writes there will be committed."""
    store = SqlStore(engine)
    await store.check()
    note = """
        create table noted (what text, how text);
        create function note() returns trigger language plpgsql as
            $$ begin insert into noted values (tg_table_name, current_setting('synchronous_commit')); return new; end $$;
        create trigger note after insert on oc_event execute function note();
        create trigger note after insert or update on oc_response execute function note();
        create trigger note after insert on oc_turn execute function note()"""
    postgres.sql(note, postgres_database)
    response = StoredResponse(id="resp_1", created=1.0, status="in_progress", body="{}")
    await store.begin_response("alice", response, "token")
    assert await store.append([(Key("alice", "resp_1"), "token", Events(0, 1, b"[]"))])
    ended = replace(response, status="completed")
    assert await store.commit(TurnCommit(principal="alice", token="token", response=ended, events=Events(2, 3, b"[]")))
    noted = await engine.run(rows("select what, how from noted"))
    assert set(noted) == {("oc_response", "on"), ("oc_event", "off"), ("oc_event", "on"), ("oc_turn", "on")}
    assert noted.index(("oc_event", "off")) < noted.index(("oc_event", "on"))


# cancellation


@pytest.mark.parametrize("how", ["task", "scope", "timeout"])
async def test_a_cancelled_caller_leaves_no_answer_behind_on_the_connection(postgres_url: str, how: str) -> None:
    engine = PostgresEngine(f"{postgres_url}?pool_size=1")
    slow = rows("select pg_sleep(0.2), 'of the cancelled one'")
    if how == "task":
        task = asyncio.create_task(engine.run(slow))
        await asyncio.sleep(0.05)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
    elif how == "scope":
        with anyio.move_on_after(0.05) as scope:
            await engine.run(slow)
            await anyio.lowlevel.checkpoint()
        assert scope.cancelled_caught
    else:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await engine.run(slow)
    for number in range(5):
        assert await engine.run(rows("select $1::bigint", number)) == [(number,)]
    await engine.aclose()


async def test_a_transaction_whose_caller_is_cancelled_again_and_again_is_done_to_its_end(
    engine: PostgresEngine,
) -> None:
    await engine.run(COUNTER)
    task = asyncio.create_task(engine.run(script(ADD, "select pg_sleep(0.1)", ADD, "select pg_sleep(0.1)", ADD)))
    await asyncio.sleep(0.02)
    while not task.done():
        task.cancel()
        await asyncio.sleep(0.01)
    assert task.cancelled()
    assert await counted(engine) == 3


async def test_an_event_loop_that_ends_in_the_midst_of_a_transaction_undoes_it(
    postgres_url: str, engine: PostgresEngine
) -> None:
    await engine.run(COUNTER)

    async def ends() -> None:
        task = asyncio.create_task(PostgresEngine(postgres_url).run(script(ADD, "select pg_sleep(30)")))
        await asyncio.sleep(0.2)
        assert not task.done()

    await asyncio.to_thread(asyncio.run, ends())
    assert await counted(engine) == 0
    await engine.run(rows(ADD))
    assert await counted(engine) == 1


# connections


def test_connections_are_closed_when_their_event_loop_ends(
    postgres: Cluster, postgres_url: str, postgres_database: str
) -> None:
    engine = PostgresEngine(postgres_url)

    async def several() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(engine.run, rows("select pg_sleep(0.05)"))

    for _ in range(3):
        asyncio.run(several())
        for _ in wait_until("all connections are closed"):
            if not connections(postgres, postgres_database):
                break
    gc.collect()  # an unclosed transport would warn, which is an error here


def test_connections_of_an_engine_that_nobody_has_closed_are_closed_with_their_event_loop(
    postgres: Cluster, postgres_url: str, postgres_database: str
) -> None:
    async def dropped() -> int:
        await PostgresEngine(postgres_url).run(rows("select 1"))
        gc.collect()  # a destroyed task, and its connection, would warn
        return connections(postgres, postgres_database)

    assert asyncio.run(dropped()) == 1
    for _ in wait_until("all connections are closed"):
        if not connections(postgres, postgres_database):
            break
    gc.collect()


def test_what_is_given_back_while_the_event_loop_ends_reaches_the_database(
    postgres: Cluster, postgres_url: str, postgres_database: str
) -> None:
    """Turns release their locks in `finally`, when the connections may already be closed."""
    engine = PostgresEngine(postgres_url)
    asyncio.run(engine.run(COUNTER))

    async def turn() -> None:
        try:
            await engine.run(rows("select 1"))
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            await engine.run(rows(ADD))

    async def ends() -> asyncio.Task[None]:
        running = asyncio.create_task(turn())
        await asyncio.sleep(0.2)
        return running

    assert asyncio.run(ends()).cancelled()
    assert asyncio.run(counted(engine)) == 1
    for _ in wait_until("all connections are closed"):
        if not connections(postgres, postgres_database):
            break
    gc.collect()


def test_event_loops_in_several_threads_have_connections_of_their_own(postgres_url: str) -> None:
    engine = PostgresEngine(postgres_url)
    asyncio.run(engine.run(COUNTER))
    ready = threading.Barrier(4)

    async def add() -> None:
        ready.wait(10)
        for _ in range(20):
            await engine.run(rows(ADD))

    threads = [threading.Thread(target=asyncio.run, args=(add(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert asyncio.run(counted(engine)) == 80


async def test_a_closed_engine_has_no_connections_and_can_be_used_again(
    engine: PostgresEngine, postgres: Cluster, postgres_database: str
) -> None:
    assert await engine.run(rows("select 1")) == [(1,)]
    await engine.aclose()
    assert connections(postgres, postgres_database) == 0
    assert await engine.run(rows("select 2")) == [(2,)]


async def test_closing_reaches_the_connections_of_other_event_loops(
    engine: PostgresEngine, postgres: Cluster, postgres_database: str
) -> None:
    used, over = threading.Event(), threading.Event()

    async def other() -> None:
        await engine.run(rows("select 1"))
        used.set()
        await asyncio.to_thread(over.wait, 20)

    thread = threading.Thread(target=asyncio.run, args=(other(),))
    thread.start()
    assert await asyncio.to_thread(used.wait, 10)
    await engine.aclose()
    for _ in wait_until("all connections are closed"):
        await asyncio.sleep(0)
        if not connections(postgres, postgres_database):
            break
    over.set()
    await asyncio.to_thread(thread.join, 10)


async def test_no_more_connections_than_allowed_serve_any_number_of_transactions(
    postgres: Cluster, postgres_url: str, postgres_database: str
) -> None:
    engine = PostgresEngine(f"{postgres_url}?pool_size=3")
    most = 0

    async def use() -> None:
        nonlocal most
        (found,) = await engine.run(
            rows("select count(*), pg_sleep(0.02) from pg_stat_activity where datname = $1", postgres_database)
        )
        most = max(most, found[0])

    async with anyio.create_task_group() as tasks:
        for _ in range(30):
            tasks.start_soon(use)
    await engine.aclose()
    assert most == 3


async def test_a_server_that_takes_no_more_connections_is_used_through_those_it_took(
    postgres: Cluster, postgres_url: str, postgres_database: str
) -> None:
    postgres.sql("create role few login superuser")
    postgres.sql("alter role few nosuperuser connection limit 2")
    engine = PostgresEngine(postgres.url(postgres_database, "few"))
    async with anyio.create_task_group() as tasks:
        for _ in range(30):
            tasks.start_soon(engine.run, rows("select pg_sleep(0.02)"))
    await engine.aclose()
    postgres.sql("drop role few")


async def test_waiting_for_a_connection_has_an_end(postgres_url: str) -> None:
    engine = PostgresEngine(f"{postgres_url}?pool_size=1&timeout=0.5")
    long = asyncio.create_task(engine.run(script(*["select pg_sleep(0.2)"] * 5)))
    await asyncio.sleep(0.05)
    with pytest.raises(Unavailable, match="cannot be used"):
        await engine.run(rows("select 1"))
    await long
    assert await engine.run(rows("select 1")) == [(1,)]
    await engine.aclose()


# its URL


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("mysql://secret@h/d", "postgresql://user:password@host:port/database"),
        ("postgresql://u:secret@h/d?pool_size=0", "pool_size"),
        ("postgresql://u:secret@h/d?pool_size=many", "pool_size"),
        ("postgresql://u:secret@h/d?timeout=-1", "timeout"),
        ("postgresql://u:secret@h/d?timeout=nan", "timeout"),
        ("postgresql://u:secret@h/d?timeout=inf", "timeout"),
        ("postgresql://u:secret@h/d?statement_cache_size=-1", "statement_cache_size"),
    ],
)
def test_a_wrong_url_is_refused_without_quoting_it(url: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        PostgresEngine(url)
    assert "secret" not in str(caught.value)


async def test_a_url_can_say_what_asyncpg_knows(postgres_url: str) -> None:
    engine = PostgresEngine(f"{postgres_url}?application_name=mine&sslmode=disable&statement_cache_size=0")
    assert await engine.run(rows("select current_setting('application_name')")) == [("mine",)]
    await engine.aclose()


def test_on_trio_it_says_what_it_needs(postgres_url: str) -> None:
    with pytest.raises(RuntimeError, match="asyncio only"):
        anyio.run(PostgresEngine(postgres_url).run, rows("select 1"), backend="trio")
