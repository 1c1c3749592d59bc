"""Chat WebSocket threads in every store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openai_compat.stores.port import Key, Store, StoredThread
from openai_compat.stores.sql import SqlStore
from openai_compat.stores.thread_port import SKIPPED
from tests.requirements import requirement
from tests.stores.samples import ALICE, BOB, events, time_passes

pytestmark = pytest.mark.anyio
THREAD = StoredThread("trip", 4, 2, "m\0", '{"turn_id": "t"}', running=True)


@requirement("chatws.processes")
async def test_one_turn_has_a_thread_and_numbers_its_frames_until_it_leaves(store: Store) -> None:
    assert await store.take_thread(ALICE, "t1", 100) == StoredThread("trip", 0, running=True)
    assert await store.take_thread(ALICE, "t1", 100) == StoredThread("trip", 0, running=True)
    assert await store.take_thread(ALICE, "t2", 100) is None
    assert await store.append_frames(ALICE, "t1", replace(THREAD, last=2), events(1, 2))
    assert await store.append_frames(ALICE, "t1", THREAD, events(3, 4))
    assert await store.append_frames(ALICE, "t1", THREAD, events(3, 4))  # repeated, since its answer was lost
    assert not await store.append_frames(ALICE, "t2", THREAD, events(5, 6))
    assert await store.thread(ALICE, 10.0) == THREAD
    assert await store.threads("alice") == [THREAD]
    assert [*await store.frames(ALICE, 0)] == [events(1, 2), events(3, 4)]
    assert [*await store.frames(ALICE, 2)] == [events(3, 4)]
    assert (await store.renew(["t1"])).held == {"t1"}
    assert (await store.thread(BOB, 10.0), [*await store.frames(BOB, 0)], [*await store.threads("bob")]) == (
        None,
        [],
        [],
    )
    await store.leave_thread(ALICE, "t2")
    await store.leave_thread(ALICE, "t1")
    assert await store.thread(ALICE, 10.0) == replace(THREAD, active="null", running=False)
    assert await store.threads("alice") == []
    taken = await store.take_thread(ALICE, "t2", 2)
    assert taken is not None
    assert (taken.last, taken.settled, taken.model) == (4, 2, "m\0")
    assert [*await store.frames(ALICE, 0)] == [events(3, 4)]


@requirement("chatws.processes")
async def test_a_signal_is_for_the_turn_that_runs_and_is_heard_once(store: Store) -> None:
    assert not await store.put_signal(ALICE, "0")
    await store.take_thread(ALICE, "t1", 100)
    assert not await store.put_signal(BOB, "0")
    assert await store.put_signal(ALICE, '"\\u0000"')
    assert await store.put_signal(ALICE, "2")
    assert [*await store.take_signals(["other"])] == []
    assert [*await store.take_signals(["other", "t1"])] == [("t1", '"\\u0000"'), ("t1", "2")]
    assert [*await store.take_signals(["t1"])] == []
    assert await store.put_signal(ALICE, "3")
    await store.leave_thread(ALICE, "t1")
    await store.take_thread(ALICE, "t2", 100)
    assert [*await store.take_signals(["t1", "t2"])] == []


@requirement("chatws.processes")
async def test_the_thread_of_a_dead_process_is_free_after_its_lease_and_its_numbers_are_not_given_again(
    sql_store: SqlStore,
) -> None:
    await sql_store.take_thread(ALICE, "dead", 100, 10.0)
    await sql_store.append_frames(ALICE, "dead", THREAD, events(1, 4))
    await time_passes(sql_store.engine, 11)
    found = await sql_store.thread(ALICE, 60.0)
    assert found is not None
    assert not found.running
    assert not await sql_store.put_signal(ALICE, "0")
    taken = await sql_store.take_thread(ALICE, "living", 5000)
    assert taken is not None
    assert taken.last == 4 + SKIPPED
    assert not await sql_store.append_frames(ALICE, "dead", THREAD, events(5, 6))
    await sql_store.leave_thread(ALICE, "living")
    await time_passes(sql_store.engine, 2 * 24 * 3600)
    assert await sql_store.sweep() == 1
    assert [*await sql_store.frames(Key("alice", "trip"), 0)] == []
