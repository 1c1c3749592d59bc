"""The SQLite engine, and problems with its file, its disk or other processes."""

from __future__ import annotations

import gc
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from openai_compat.aio.timers import WakeEvent
from openai_compat.errors import Unavailable
from openai_compat.stores import sqlite
from openai_compat.stores.engine import Autocommit, Transaction
from openai_compat.stores.open import open_store
from openai_compat.stores.port import Events, Key, Store
from openai_compat.stores.schema import MIGRATIONS, UnusableStore
from openai_compat.stores.sql import SqlStore
from openai_compat.stores.sqlite import MAX_BATCH, SqliteEngine
from tests.stores.postgres_cluster import wait_until
from tests.stores.samples import ALICE, ANSWER, approval, done, events, file, names_in, response, said, turn
from tests.support.sqlite_statements import traced_statements

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def one(statement: str, *parameters: Any) -> Callable[[], Transaction[Any]]:
    """A transaction of one statement; its result is the first column of the first row."""

    def transaction() -> Transaction[Any]:
        rows = yield statement, parameters
        return rows[0][0] if rows else None

    return transaction


async def locked_out(call: Any, code: str = "store_unavailable") -> Unavailable:
    with pytest.raises(Unavailable) as raised:
        await call
    assert (raised.value.status, raised.value.code) == (503, code)
    assert raised.value.retry_after is not None
    return raised.value


# the file


async def test_every_commit_waits_for_the_disk_and_readers_are_not_in_its_way(path: Path) -> None:
    engine = SqliteEngine(path)
    assert await engine.run(one("pragma synchronous")) == 2
    assert await engine.run(one("pragma journal_mode")) == "wal"
    await engine.aclose()


async def test_only_locks_and_events_do_not_wait_for_the_disk(path: Path) -> None:
    modes: list[int] = []

    class Watched(SqliteEngine):
        async def run(self, transaction: Callable[[], Transaction[Any]]) -> Any:
            durable = not isinstance(transaction, Autocommit) or transaction.durable
            modes.append(await super().run(Autocommit(one("pragma synchronous"), durable)))
            return await super().run(transaction)

    store = SqlStore(Watched(path))
    await store.check()
    for call, mode in (
        (store.begin(ALICE, "t"), 1),
        (store.begin_response("alice", response(), "t"), 2),
        (store.append([(Key("alice", "resp_1"), "t", events(0, 1))]), 1),
        (store.renew(["t"]), 1),
        (store.claim(ALICE, "body", "t"), 2),
        (store.commit(turn("t", "a", response=done(response()))), 2),
        (store.settle(ALICE, "t", ANSWER), 2),
        (store.ask("alice", approval("ask")), 2),
        (store.decide(Key("alice", "ask"), "approved", "{}"), 2),
    ):
        modes.clear()
        await call
        assert set(modes) == {mode}
    await store.aclose()


async def test_the_clock_is_unix_time_to_the_millisecond(path: Path) -> None:
    engine = SqliteEngine(path)
    before = time.time()
    now = await engine.run(one("select {now}"))
    assert before - 0.01 <= now <= time.time() + 0.01
    await engine.aclose()


async def test_a_new_file_is_its_owners_only(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    await said(store, "t", "a")
    modes = {found.name: stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert "store.db-wal" in modes
    await store.aclose()


async def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(path: Path) -> None:
    garbage = b"once upon a time\n" * 1000
    path.write_bytes(garbage)
    store = open_store(f"sqlite:///{path}")
    with pytest.raises(UnusableStore, match="no SQLite database"):
        await store.check()
    with pytest.raises(UnusableStore):
        await store.begin(ALICE, "t")
    await store.aclose()
    assert path.read_bytes() == garbage
    assert [found.name for found in path.parent.iterdir()] == ["store.db"]


async def test_another_programs_database_is_refused_and_left_as_it_is(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("create table invoices (n integer)")
    connection.close()
    before = path.read_bytes()
    store = open_store(f"sqlite:///{path}")
    with pytest.raises(UnusableStore, match="another program"):
        await store.check()
    await store.aclose()
    assert path.read_bytes() == before


async def test_a_newer_schema_is_refused_and_left_as_it_is(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    await said(store, "t", "a")
    await store.aclose()
    with sqlite3.connect(path) as connection:
        connection.execute("update oc_schema set version = ?", (len(MIGRATIONS) + 1,))
    connection.close()
    before = path.read_bytes()
    store = open_store(f"sqlite:///{path}")
    with pytest.raises(UnusableStore, match="newer version"):
        await store.check()
    with pytest.raises(UnusableStore):
        await store.commit(turn("t", "b"))
    await store.aclose()
    assert path.read_bytes() == before


async def test_a_directory_that_is_not_there_is_told_and_once_it_is_there_all_is_well(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'later' / 'store.db'}")
    error = await locked_out(store.check())
    assert str(tmp_path) not in error.message
    (tmp_path / "later").mkdir()
    await said(store, "t", "a")
    await store.aclose()


async def test_what_was_stored_is_there_after_a_restart(path: Path) -> None:
    for number in range(3):
        store = open_store(f"sqlite:///{path}")
        await said(store, f"t{number}", f"i{number}")
        await store.aclose()
    store = open_store(f"sqlite:///{path}")
    assert await names_in(store) == ["i0", "i1", "i2"]
    await store.aclose()
    assert [found.name for found in path.parent.iterdir()] == ["store.db"]


async def test_a_file_that_is_deleted_or_replaced_under_a_running_server_is_noticed(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    await said(store, "t0", "lost")
    for found in list(path.parent.iterdir()):
        found.unlink()
    await locked_out(store.begin(ALICE, "t1"))
    await said(store, "t2", "kept")
    await store.aclose()
    store = open_store(f"sqlite:///{path}")
    assert await names_in(store) == ["kept"]
    await store.aclose()


# locks of other processes


class Locker:
    """Another program that has locked the file."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("begin immediate")

    def leave(self) -> None:
        self._connection.execute("rollback")
        self._connection.close()


async def test_a_turn_waits_for_a_lock_that_is_held_for_a_moment(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    await store.check()
    locker = Locker(path)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(said, store, "t", "a")
            for _ in range(100):
                await anyio.lowlevel.checkpoint()
            assert await anyio.to_thread.run_sync(_queued, store)
            locker.leave()
    assert await names_in(store) == ["a"]
    await store.aclose()


def _queued(store: Any) -> bool:
    """True if the engine's thread has taken the job."""
    return any(not store.engine._queue for _ in wait_until("the job is taken"))


async def test_a_lock_that_is_held_on_is_told_in_time_and_once_it_is_gone_all_is_well(path: Path) -> None:
    engine = SqliteEngine(path, patience=0.3)
    store = SqlStore(engine)
    await said(store, "t0", "a")
    locker = Locker(path)
    with anyio.fail_after(3):
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(locked_out, store.begin(Key("alice", f"c{number}"), "t"))
    locker.leave()
    await said(store, "t1", "b")
    assert await names_in(store) == ["a", "b"]
    await store.aclose()


async def test_while_a_file_stays_locked_those_who_come_later_are_told_at_once(path: Path) -> None:
    engine = SqliteEngine(path, patience=1.0)
    store = SqlStore(engine)
    await store.check()
    locker = Locker(path)
    with anyio.fail_after(10):
        await locked_out(store.begin(ALICE, "t"))
        before = time.monotonic()
        await locked_out(store.release(ALICE, "t"))
        assert time.monotonic() - before < 0.9
    locker.leave()
    await said(store, "t", "a")
    await store.aclose()


async def test_a_read_only_database_is_told_and_then_opened_anew(path: Path) -> None:
    engine = SqliteEngine(path)
    store = SqlStore(engine)
    await said(store, "t0", "a")
    await engine.run(one("pragma query_only = 1"))
    await locked_out(store.begin(ALICE, "t1"))
    await said(store, "t1", "b")
    assert await names_in(store) == ["a", "b"]
    await store.aclose()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Any:
    """A disk of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True, timeout=10
    )
    if mounted.returncode:
        pytest.skip("only root may make a small disk")
    yield disk
    gc.collect()
    subprocess.run(["umount", "--lazy", str(disk)], check=True, timeout=10)


async def test_a_full_disk_is_told_the_history_stays_and_with_room_again_all_is_well(
    tiny_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openai_compat.stores.sql_turns.COMMIT_PATIENCE", 0.0)
    store = open_store(f"sqlite:///{tiny_disk / 'store.db'}")
    await said(store, "t0", "a")
    ballast = tiny_disk / "ballast"
    await store.begin(ALICE, "t1")
    _fill(ballast)
    with pytest.raises(Unavailable):
        await store.commit(turn("t1", "b" * 500_000))
    _fill(ballast)
    await locked_out(store.put_file("alice", file("large"), b"x" * 500_000))
    ballast.unlink()
    assert await names_in(store) == ["a"]
    assert await store.commit(turn("t1", "c"))
    assert await names_in(store) == ["a", "c"]
    await store.aclose()


def _fill(ballast: Path) -> None:
    """Write until the disk is full."""
    with ballast.open("wb", buffering=0) as written:
        for size in (65536, 4096, 512):
            try:
                while written.write(b"x" * size):
                    pass
            except OSError:
                continue


# group commit


class Gate:
    """A transaction that blocks the engine's thread until it is released."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self) -> Transaction[None]:
        yield "select 1", ()
        self.entered.set()
        assert self.open.wait(20)


async def entered(gate: Gate) -> None:
    assert await anyio.to_thread.run_sync(gate.entered.wait, 20)


class Oops(Exception):
    pass


async def test_of_transactions_that_are_written_together_a_failing_one_undoes_only_itself(path: Path) -> None:
    engine, gate = SqliteEngine(path), Gate()
    await engine.run(one("create table numbers (n integer primary key)"))
    failed: list[int] = []

    async def insert(number: int) -> None:
        def transaction() -> Transaction[int]:
            yield "insert into numbers values ($1)", (number,)
            if number % 3 == 0:
                raise Oops
            return number

        try:
            assert await engine.run(transaction) == number
        except Oops:
            failed.append(number)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(engine.run, gate)
            await entered(gate)
            for number in range(MAX_BATCH + 10):
                group.start_soon(insert, number)
            while len(engine._queue) < MAX_BATCH + 10:
                await anyio.lowlevel.checkpoint()
            gate.open.set()
    numbers = set(range(MAX_BATCH + 10))
    assert set(failed) == {number for number in numbers if number % 3 == 0}
    assert await engine.run(one("select count(*) from numbers")) == len(numbers) - len(failed)
    await engine.aclose()


async def test_callers_that_are_ready_together_are_one_batch_and_woken_by_one_call_into_their_loop(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    set_all = sqlite._set_all

    def counting(events: Sequence[WakeEvent]) -> None:
        calls.append(events)
        set_all(events)

    monkeypatch.setattr(sqlite, "_set_all", counting)
    statements = traced_statements(monkeypatch)
    engine = SqliteEngine(path)  # unused: a thread that has just written could take the first job at once
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for _ in range(MAX_BATCH):  # all are ready in the same iteration of the event loop
                group.start_soon(engine.run, one("select 2"))
    assert statements[1:] == ["begin immediate", *["select 2"] * MAX_BATCH, "commit"]
    assert len(calls) == 1
    await engine.aclose()


async def test_a_statement_that_breaks_spoils_none_of_those_it_is_written_with(path: Path) -> None:
    engine, gate = SqliteEngine(path), Gate()
    await SqlStore(engine).check()
    await engine.run(one("create table numbers (n integer primary key)"))
    outcomes: list[str] = []

    async def run(statement: str) -> None:
        try:
            await engine.run(one(statement))
        except (Unavailable, sqlite3.IntegrityError) as error:
            outcomes.append(type(error).__name__)
        else:
            outcomes.append("done")

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(engine.run, gate)
            await entered(gate)
            for statement in (
                "insert into numbers values (1)",
                "insert into nowhere values (1)",
                "insert into numbers values (1)",
                "insert into numbers values (2)",
            ):
                group.start_soon(run, statement)
            while len(engine._queue) < 4:
                await anyio.lowlevel.checkpoint()
            gate.open.set()
    assert sorted(outcomes) == ["IntegrityError", "Unavailable", "done", "done"]
    assert await engine.run(one("select count(*) from numbers")) == 2
    await engine.aclose()


async def test_a_caller_who_leaves_before_its_turn_has_done_nothing(path: Path) -> None:
    engine, gate = SqliteEngine(path), Gate()
    await engine.run(one("create table numbers (n integer)"))
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(engine.run, gate)
            await entered(gate)
            async with anyio.create_task_group() as leaving:
                leaving.start_soon(engine.run, one("insert into numbers values (1)"))
                while not engine._queue:
                    await anyio.lowlevel.checkpoint()
                leaving.cancel_scope.cancel()
            assert not engine._queue
            gate.open.set()
    assert await engine.run(one("select count(*) from numbers")) == 0
    await engine.aclose()


async def test_a_disk_that_hangs_keeps_nobody_waiting(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai_compat.stores.sqlite.STUCK", 0.1)
    engine, gate = SqliteEngine(path), Gate()
    with anyio.fail_after(20):
        await locked_out(engine.run(gate), "store_outcome_unknown")
        await locked_out(engine.run(one("select 1")), "store_unavailable")
        gate.open.set()
        monkeypatch.setattr("openai_compat.stores.sqlite.STUCK", 10.0)
        assert await engine.run(one("select 1")) == 1
    await engine.aclose()


# threads, event loops and forks


async def test_closing_ends_the_thread_and_using_the_engine_again_starts_another(path: Path) -> None:
    engine = SqliteEngine(path)
    before = set(threading.enumerate())
    for _ in range(3):
        assert await engine.run(one("select 1")) == 1
        (thread,) = [found for found in set(threading.enumerate()) - before if found.name == "openai-compat sqlite"]
        await engine.aclose()
        assert not thread.is_alive()
    await engine.aclose()


async def test_closing_lets_those_who_wait_finish(path: Path) -> None:
    engine, gate = SqliteEngine(path), Gate()
    results: list[int] = []

    async def ask() -> None:
        results.append(await engine.run(one("select 7")))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(engine.run, gate)
            await entered(gate)
            group.start_soon(ask)
            while not engine._queue:
                await anyio.lowlevel.checkpoint()
            group.start_soon(engine.aclose)
            gate.open.set()
    assert results == [7]


def test_event_loops_may_come_and_go_and_run_at_the_same_time(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")

    async def talk(name: str) -> None:
        for number in range(5):
            await said(store, f"{name}{number}", f"{name}{number}", key=Key("alice", name))

    def serve(name: str, backend: str) -> None:
        anyio.run(talk, name, backend=backend)

    threads = [threading.Thread(target=serve, args=(f"c{n}", ("asyncio", "trio")[n % 2])) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    for number in range(6):
        assert anyio.run(names_in, store, Key("alice", f"c{number}")) == [f"c{number}{n}" for n in range(5)]
    anyio.run(store.aclose)


def test_an_event_loop_that_ends_in_the_midst_harms_nobody(path: Path) -> None:
    engine, gate = SqliteEngine(path), Gate()

    async def leave() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(engine.run, gate)
            await entered(gate)
            group.cancel_scope.cancel()

    anyio.run(leave)
    gate.open.set()

    async def ask() -> int:
        with anyio.fail_after(10):
            return await engine.run(one("select 7"))

    assert anyio.run(ask) == 7
    anyio.run(engine.aclose)


CHILD = """
    import os, sys
    import anyio
    from openai_compat.stores.open import open_store
    from tests.stores.samples import said, names_in
    from openai_compat.stores.port import Key
    store = open_store("sqlite:///" + sys.argv[1])
"""


@contextmanager
def child(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Another process, which is killed at the end if it still runs."""
    code = textwrap.dedent(CHILD) + textwrap.dedent(script)
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def integrity(path: Path) -> str:
    engine = SqliteEngine(path)
    try:
        return str(await engine.run(one("pragma integrity_check")))
    finally:
        await engine.aclose()


def test_a_process_that_forks_carries_no_open_file_over(path: Path) -> None:
    script = """
        anyio.run(said, store, "before", "before")
        children = []
        for number in range(3):
            pid = os.fork()
            if pid == 0:
                async def talk():
                    for n in range(5):
                        await said(store, f"{number}-{n}", f"{n}", key=Key("alice", f"child{number}"))
                    await store.aclose()
                anyio.run(talk)
                os._exit(0)
            children.append(pid)
            anyio.run(lambda: said(store, f"parent{number}", f"parent{number}"))
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        anyio.run(store.aclose)
    """
    with child(script, str(path)) as process:
        assert process.wait(40) == 0
    store = open_store(f"sqlite:///{path}")
    assert anyio.run(names_in, store) == ["before", "parent0", "parent1", "parent2"]
    for number in range(3):
        assert anyio.run(names_in, store, Key("alice", f"child{number}")) == ["0", "1", "2", "3", "4"]
    anyio.run(store.aclose)
    assert anyio.run(integrity, path) == "ok"


# several processes


async def test_processes_that_start_at_the_same_time_share_the_file(path: Path) -> None:
    script = """
        from tests.stores.samples import turn
        async def talk():
            for n in range(15):
                key = Key("alice", "shared")
                while await store.begin(key, f"{sys.argv[2]}-{n}") is None:
                    await anyio.lowlevel.checkpoint()
                assert await store.commit(turn(f"{sys.argv[2]}-{n}", f"{sys.argv[2]}-{n}", key=key))
            await store.aclose()
        anyio.run(talk)
    """
    with ExitStack() as stack:
        for process in [stack.enter_context(child(script, str(path), str(number))) for number in range(3)]:
            assert await anyio.to_thread.run_sync(process.wait, 50) == 0
    store = open_store(f"sqlite:///{path}")
    found = await names_in(store, Key("alice", "shared"))
    assert found is not None
    assert sorted(found) == sorted([f"{number}-{n}" for number in range(3) for n in range(15)])
    for number in range(3):
        mine = [name for name in found if name.startswith(f"{number}-")]
        assert mine == [f"{number}-{n}" for n in range(15)]
    await store.aclose()


@pytest.mark.parametrize("acknowledged", [1, 7, 40])
async def test_every_turn_that_was_acknowledged_survives_kill_9(path: Path, acknowledged: int) -> None:
    """Three concurrent conversations, so that the kill also hits group commits."""
    script = """
        async def talk(name):
            n = 0
            while True:
                await said(store, f"{name}-{n}", f"{name}-{n}-question", f"{name}-{n}-answer", key=Key("alice", name))
                os.write(1, f"{name} {n}\\n".encode())
                n += 1
        async def main():
            async with anyio.create_task_group() as group:
                for name in "abc":
                    group.start_soon(talk, name)
        anyio.run(main)
    """
    with child(script, str(path)) as process:
        assert process.stdout is not None
        lines = [await anyio.to_thread.run_sync(process.stdout.readline) for _ in range(acknowledged)]
        process.kill()
        lines += process.stdout.readlines()
    last = {name: int(number) for name, number in [line.split() for line in lines if line.endswith("\n")]}
    store = open_store(f"sqlite:///{path}")
    for name, number in last.items():
        found = await names_in(store, Key("alice", name))
        assert found is not None
        turns = len(found) // 2
        assert turns in (number + 1, number + 2)
        assert found == [f"{name}-{n}-{part}" for n in range(turns) for part in ("question", "answer")]
    await store.aclose()
    assert await integrity(path) == "ok"


async def test_the_lock_of_a_killed_process_is_free_again_after_its_lease(path: Path) -> None:
    script = """
        async def hang():
            await store.begin(Key("alice", "trip"), "dead", lease=1.0)
            print("held", flush=True)
            await anyio.sleep_forever()
        anyio.run(hang)
    """
    with child(script, str(path)) as process:
        assert process.stdout is not None
        assert await anyio.to_thread.run_sync(process.stdout.readline) == "held\n"
    store: Store = open_store(f"sqlite:///{path}")
    with anyio.fail_after(10):
        while await store.begin(ALICE, "t") is None:
            await anyio.lowlevel.checkpoint()
    assert await store.commit(turn("t", "a"))
    await store.aclose()


async def test_a_long_event_log_takes_little_room_and_one_of_an_earlier_version_is_read(path: Path) -> None:
    engine = SqliteEngine(path)
    store = SqlStore(engine)
    await store.begin_response("alice", response(), "t")
    large = Events(0, 999, b'event: response.output_text.delta\ndata: {"delta": "word"}\n\n' * 1000)
    assert await store.append([(Key("alice", "resp_1"), "t", large)])
    assert await engine.run(one("select length(body) from oc_event")) < 2000
    await engine.run(one("update oc_event set body = $1", large.body.decode()))
    assert await store.events(Key("alice", "resp_1"), -1) == [large]
    await engine.aclose()


async def test_callers_that_become_ready_one_step_after_the_other_are_one_batch(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements = traced_statements(monkeypatch)
    engine = SqliteEngine(path)  # unused: a thread that has just written could take the first job at once

    async def caller(steps: int) -> None:
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        await engine.run(one("select 2"))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for steps in range(9):
                group.start_soon(caller, steps)
    assert statements[1:] == ["begin immediate", *["select 2"] * 9, "commit"]
    await engine.aclose()


async def test_a_caller_that_leaves_while_others_gather_leaves_them_their_batch(path: Path) -> None:
    engine, first = SqliteEngine(path), anyio.CancelScope()
    told: list[int] = []

    async def leaves() -> None:
        with first:
            await engine.run(one("select 1"))

    async def stays(number: int) -> None:
        first.cancel()  # it is the job that would wake the thread
        told.append(await engine.run(one(f"select {number}")))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(leaves)
            await anyio.lowlevel.checkpoint()
            for number in range(2, 5):
                group.start_soon(stays, number)
    assert sorted(told) == [2, 3, 4]
    assert not engine._queue
    await engine.aclose()
