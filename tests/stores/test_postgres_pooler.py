"""Behind pgbouncer, which gives each transaction any free connection."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

from openai_compat.errors import Unavailable
from openai_compat.stores.engine import Transaction
from openai_compat.stores.port import ConversationTurn, Events, Item, Key, StoredResponse, TurnCommit
from openai_compat.stores.postgres import PostgresEngine
from openai_compat.stores.sql import SqlStore
from tests.clients.programs import need
from tests.stores.postgres_cluster import Cluster, free_port, wait_until
from tests.stores.statements import rows

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """asyncpg works on asyncio only."""
    return "asyncio"


CONFIG = """
[databases]
* = host=127.0.0.1 port={target} user=owner

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
server_login_retry = 0.2
max_client_conn = 200
"""


@contextmanager
def pooler(postgres: Cluster) -> Iterator[int]:
    """pgbouncer with three connections to the server; returns its port."""
    port = free_port()
    config, log = postgres.directory / "pgbouncer.ini", postgres.directory / "pgbouncer.log"
    config.write_text(CONFIG.format(target=postgres.port, port=port))
    with log.open("wb") as output:
        running = subprocess.Popen(["pgbouncer", str(config)], user=postgres.user, stdout=output, stderr=output)
    try:
        for _ in wait_until("pgbouncer is up"):
            assert running.poll() is None, log.read_text()
            if "process up" in log.read_text():
                break
        yield port
    finally:
        running.send_signal(signal.SIGINT)
        running.wait(10)


@pytest.fixture
def pooled_url(postgres: Cluster, postgres_database: str) -> Iterator[str]:
    need("pgbouncer")
    with pooler(postgres) as port:
        yield f"postgresql://owner@127.0.0.1:{port}/{postgres_database}?statement_cache_size=0"


async def test_turns_of_many_clients_keep_to_their_conversations(pooled_url: str) -> None:
    """Ten connections of the store share three of the server's."""
    store = SqlStore(PostgresEngine(pooled_url))

    async def client(key: Key) -> None:
        for number in range(5):
            token = f"{key.id}-{number}"
            found = await store.begin(key, token)
            assert found is not None
            assert [item.id for item in found.items] == [f"{key.id}-{earlier}" for earlier in range(number)]
            turn = ConversationTurn(key.id, (Item(token, "{}"),))
            assert await store.commit(TurnCommit(principal=key.principal, token=token, conversation=turn))

    async with anyio.create_task_group() as clients:
        for number in range(20):
            clients.start_soon(client, Key("alice", f"conv_{number}"))
    await store.aclose()


async def test_event_logs_and_locks_work_behind_it(pooled_url: str) -> None:
    store = SqlStore(PostgresEngine(pooled_url))
    response = StoredResponse(id="resp_1", created=1.0, status="in_progress", body="{}")
    await store.begin_response("alice", response, "token")
    for first in range(0, 50, 10):
        assert await store.append([(Key("alice", "resp_1"), "token", Events(first, first + 9, b"[]"))])
    assert [batch.first for batch in await store.events(Key("alice", "resp_1"), 19)] == [20, 30, 40]
    assert (await store.renew(["token"])).held == {"token"}
    await store.aclose()


async def test_transactions_of_several_processes_at_once_make_one_schema(pooled_url: str) -> None:
    stores = [SqlStore(PostgresEngine(pooled_url)) for _ in range(5)]
    async with anyio.create_task_group() as tasks:
        for store in stores:
            tasks.start_soon(store.check)
    for store in stores:
        await store.aclose()


async def test_statements_of_a_transaction_stay_together(pooled_url: str) -> None:
    engine = PostgresEngine(pooled_url)

    def transaction() -> Transaction[set[int]]:
        pids: set[int] = set()
        for _ in range(5):
            rows = yield "update counter set n = n + 1 returning pg_backend_pid()", ()
            pids.add(rows[0][0])
        return pids

    await engine.run(rows("create table counter as select 0 as n"))
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            assert len(await engine.run(transaction)) == 1

        for _ in range(20):
            tasks.start_soon(run)
    assert await engine.run(rows("select n from counter")) == [(100,)]
    await engine.aclose()


async def test_a_server_that_is_killed_behind_it_is_an_outage_until_it_is_back(
    postgres: Cluster, pooled_url: str
) -> None:
    store = SqlStore(PostgresEngine(f"{pooled_url}&timeout=1"))
    await store.check()
    with postgres.down():
        with pytest.raises(Unavailable):
            await store.check()
    with anyio.fail_after(20):
        while True:
            try:
                await store.check()
                break
            except Unavailable:  # pgbouncer waits before it tries the server again
                await anyio.sleep(0.1)
    await store.aclose()
