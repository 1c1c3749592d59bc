"""Responses, their chains and their events in every store."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest

from openai_compat.stores.port import Chain, Events, Item, Key, Store, TurnCommit
from openai_compat.stores.sql import SqlStore
from tests.stores.samples import ALICE, done, events, items, names_in, response, said, time_passes, turn

pytestmark = pytest.mark.anyio
ONE = Key("alice", "resp_1")


def outcome(token: str, **parts: object) -> TurnCommit:
    return TurnCommit(principal="alice", token=token, **parts)


async def test_a_response_is_there_from_its_beginning(store: Store) -> None:
    begun = response(background=True, previous="resp_0", conversation="trip", input=items("q"))
    await store.begin_response("alice", begun, "t1")
    assert await store.response(ONE) == begun
    assert await store.response(Key("bob", "resp_1")) is None


async def test_a_commit_gives_it_its_outcome(store: Store) -> None:
    begun = response(input=items("q"))
    await store.begin_response("alice", begun, "t1")
    ended = done(begun, output=(Item("a", '{"\\ud800": "\\u0000\\\\"}'),))
    assert await store.commit(outcome("t1", response=ended))
    assert await store.response(ONE) == ended


async def test_a_response_that_was_not_begun_is_kept_by_the_commit_alone(store: Store) -> None:
    ended = done(response(), input=items("q"), output=items("a"))
    assert await store.commit(outcome("t1", response=ended))
    assert await store.response(ONE) == ended


async def test_the_first_batch_of_events_makes_it_one_in_progress(store: Store) -> None:
    await store.begin_response("alice", response(), "t1")
    assert await store.append([(ONE, "t1", events(0, 2))])
    found = await store.response(ONE)
    assert found is not None
    assert (found.status, found.running) == ("in_progress", True)


async def test_the_log_is_read_from_any_number(store: Store) -> None:
    await store.begin_response("alice", response(), "t1")
    await store.append([(ONE, "t1", events(0, 2))])
    await store.append([(ONE, "t1", events(3, 3))])
    await store.commit(outcome("t1", response=done(response()), events=events(4, 9)))
    assert await store.events(ONE, -1) == [events(0, 2), events(3, 3), events(4, 9)]
    assert await store.events(ONE, 1) == [events(0, 2), events(3, 3), events(4, 9)]
    assert await store.events(ONE, 3) == [events(4, 9)]
    assert await store.events(ONE, 9) == []
    assert await store.events(Key("bob", "resp_1"), -1) == []


async def test_a_large_batch_is_read_as_it_was_written(store: Store) -> None:
    await store.begin_response("alice", response(), "t1")
    large = Events(0, 999, "".join([f"data: {n} \u00e9\n\n" for n in range(9999)]).encode())
    last = replace(large, first=1000, last=1999)
    await store.append([(ONE, "t1", large)])
    await store.commit(outcome("t1", response=done(response()), events=last))
    assert await store.events(ONE, -1) == [large, last]


async def test_only_the_holder_writes_to_the_log(store: Store) -> None:
    await store.begin_response("alice", response(), "t1")
    assert not await store.append([(ONE, "stranger", events(0, 0))])
    assert not await store.append([(Key("bob", "resp_1"), "t1", events(0, 0))])
    assert not await store.append([(Key("alice", "unknown"), "t1", events(0, 0))])
    assert await store.commit(outcome("t1", response=done(response())))
    assert not await store.append([(ONE, "t1", events(0, 0))])
    assert await store.events(ONE, -1) == []


async def test_a_chain_has_each_ones_input_then_its_output_oldest_first(store: Store) -> None:
    for number, previous in ((1, None), (2, "resp_1"), (3, "resp_2")):
        link = done(
            response(f"resp_{number}"), previous=previous, input=items(f"q{number}"), output=items(f"a{number}")
        )
        assert await store.commit(outcome(f"t{number}", response=link))
    assert await store.chain(Key("alice", "resp_3")) == Chain(items("q1", "a1", "q2", "a2", "q3", "a3"))
    assert await store.chain(Key("alice", "resp_1")) == Chain(items("q1", "a1"))
    assert await store.chain(Key("bob", "resp_1")) is None


async def test_a_chain_may_fork(store: Store) -> None:
    for name, previous in (("root", None), ("left", "root"), ("right", "root")):
        link = done(response(name), previous=previous, output=items(name))
        await store.commit(outcome(name, response=link))
    assert await store.chain(Key("alice", "left")) == Chain(items("root", "left"))
    assert await store.chain(Key("alice", "right")) == Chain(items("root", "right"))


async def test_a_chain_with_a_link_that_was_deleted_cannot_be_continued(store: Store) -> None:
    for name, previous in (("a", None), ("b", "a"), ("c", "b")):
        await store.commit(outcome(name, response=done(response(name), previous=previous)))
    assert await store.delete_response(Key("alice", "b"))
    assert await store.chain(Key("alice", "c")) is None
    assert await store.chain(Key("alice", "b")) is None
    assert await store.chain(Key("alice", "a")) == Chain(())
    assert await store.response(Key("alice", "c")) is not None


async def test_a_long_chain_is_read_whole(store: Store) -> None:
    for number in range(150):
        link = done(response(f"r{number}"), previous=f"r{number - 1}" if number else None, output=items(f"a{number}"))
        await store.commit(outcome(f"t{number}", response=link))
    found = await store.chain(Key("alice", "r149"))
    assert found is not None
    assert [item.id for item in found.items] == [f"a{number}" for number in range(150)]


async def test_a_deleted_response_is_gone_with_its_events(store: Store) -> None:
    await store.begin_response("alice", response(), "t1")
    await store.append([(ONE, "t1", events(0, 0))])
    assert not await store.delete_response(Key("bob", "resp_1"))
    assert await store.delete_response(ONE)
    assert not await store.delete_response(ONE)
    assert await store.response(ONE) is None
    assert await store.events(ONE, -1) == []


async def test_a_response_deleted_while_it_runs_is_not_brought_back(store: Store) -> None:
    await store.begin_response("alice", response(), "t1")
    await store.delete_response(ONE)
    assert not await store.append([(ONE, "t1", events(0, 0))])
    assert "t1" not in (await store.renew(["t1"])).held
    assert not await store.commit(outcome("t1", response=done(response())))
    assert await store.response(ONE) is None


async def test_whoever_runs_it_is_told_that_somebody_wants_it_stopped(store: Store) -> None:
    await store.begin_response("alice", response(), "t1")
    assert not await store.cancel(Key("bob", "resp_1"))
    assert (await store.renew(["t1"])).cancelled == frozenset()
    assert await store.cancel(ONE)
    renewal = await store.renew(["t1", "other"])
    assert (renewal.held, renewal.cancelled) == ({"t1"}, {"t1"})
    found = await store.response(ONE)
    assert found is not None
    assert found.cancel
    assert await store.commit(outcome("t1", response=replace(response(), status="cancelled")))
    assert not await store.cancel(ONE)


async def test_a_running_response_can_be_taken_from_whoever_holds_it(store: Store) -> None:
    await store.begin_response("alice", response(), "t1")
    await store.append([(ONE, "t1", events(0, 1))])
    cancelled = replace(response(), status="cancelled", body='{"status": "cancelled"}')
    assert not await store.take_response("bob", cancelled, None)
    assert await store.take_response("alice", cancelled, events(2, 2))
    assert not await store.take_response("alice", cancelled, events(2, 2))
    assert not await store.append([(ONE, "t1", events(2, 3))])
    assert not await store.commit(outcome("t1", response=done(response())))
    assert await store.response(ONE) == cancelled
    assert await store.events(ONE, -1) == [events(0, 1), events(2, 2)]


async def test_of_many_who_end_a_response_one_does(store: Store) -> None:
    await store.begin_response("alice", response(), "t1")
    ended: list[bool] = []

    async def take() -> None:
        ended.append(await store.take_response("alice", replace(response(), status="cancelled"), events(0, 0)))

    async def commit() -> None:
        ended.append(await store.commit(outcome("t1", response=done(response()))))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(commit if number == 6 else take)
    assert sum(ended) == 1


async def test_a_response_that_somebody_holds_cannot_be_ended_by_others(store: Store) -> None:
    await store.begin_response("alice", response(), "t1")
    assert not await store.end_response("alice", replace(response(), status="failed"), None)
    assert await store.commit(outcome("t1", response=done(response())))
    assert not await store.end_response("alice", replace(response(), status="failed"), None)
    assert not await store.end_response("alice", response("unknown", status="failed"), None)


# several processes


async def test_the_response_of_a_dead_process_is_not_alive_and_anybody_may_end_it_once(sql_store: SqlStore) -> None:
    await sql_store.begin_response("alice", response(), "dead", lease=10)
    await sql_store.append([(ONE, "dead", events(0, 1))])
    await time_passes(sql_store.engine, 9)
    found = await sql_store.response(ONE)
    assert found is not None
    assert found.alive
    await time_passes(sql_store.engine, 2)
    found = await sql_store.response(ONE)
    assert found is not None
    assert not found.alive
    failed = replace(response(), status="failed")
    assert await sql_store.end_response("alice", failed, events(2, 2))
    assert not await sql_store.end_response("alice", failed, events(2, 2))
    assert await sql_store.response(ONE) == failed
    assert await sql_store.events(ONE, -1) == [events(0, 1), events(2, 2)]


async def test_a_process_that_thaws_after_its_response_was_ended_writes_nothing_more(sql_store: SqlStore) -> None:
    await sql_store.begin(ALICE, "frozen", lease=10)
    await sql_store.begin_response("alice", response(), "frozen", lease=10)
    await time_passes(sql_store.engine, 11)
    await sql_store.end_response("alice", replace(response(), status="failed"), None)
    assert not await sql_store.append([(ONE, "frozen", events(0, 0))])
    assert (await sql_store.renew(["frozen"])).held == frozenset()
    assert not await sql_store.commit(turn("frozen", "a", response=done(response())))
    assert await names_in(sql_store) is None


async def test_a_renewed_response_stays_alive(sql_store: SqlStore) -> None:
    await sql_store.begin_response("alice", response(), "t1", lease=10)
    for _ in range(3):
        await time_passes(sql_store.engine, 8)
        assert (await sql_store.renew(["t1"], lease=10)).held == {"t1"}
    found = await sql_store.response(ONE)
    assert found is not None
    assert found.alive


async def test_an_append_whose_answer_was_lost_can_be_repeated(sql_store: SqlStore) -> None:
    await sql_store.begin_response("alice", response(), "t1")
    assert await sql_store.append([(ONE, "t1", events(0, 1))])
    assert await sql_store.append([(ONE, "t1", events(0, 1))])
    assert await sql_store.events(ONE, -1) == [events(0, 1)]


async def test_what_a_conversation_and_a_response_say_is_written_together_or_not_at_all(sql_store: SqlStore) -> None:
    await said(sql_store, "t0", "before")
    await sql_store.begin(ALICE, "t1")
    await sql_store.begin_response("alice", response(), "t1")
    await sql_store.take_response("alice", replace(response(), status="cancelled"), None)
    assert not await sql_store.commit(turn("t1", "lost", response=done(response())))
    assert await names_in(sql_store) == ["before"]
