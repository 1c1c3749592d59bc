"""Commits, renewals, idempotency keys, slots and rates in every store."""

from __future__ import annotations

import anyio
import pytest

from openai_compat.stores.port import Allowance, Charge, Claim, ConversationTurn, Key, Store, TurnCommit
from openai_compat.stores.sql import SqlStore
from tests.requirements import requirement
from tests.stores.samples import (
    ALICE,
    ANSWER,
    BOB,
    approval,
    completion,
    done,
    events,
    items,
    names_in,
    response,
    said,
    time_passes,
    turn,
)

pytestmark = pytest.mark.anyio


async def test_one_commit_writes_all_that_a_turn_leaves_behind(store: Store) -> None:
    await store.begin(ALICE, "t1")
    await store.begin_response("alice", response(), "t1")
    ended = done(response(), output=items("a"))
    everything = turn(
        "t1", "q", "a", transcript="h", response=ended, events=events(0, 3), completion=completion("c"),
        approvals=(approval("ask_1"), approval("ask_2")),
    )  # fmt: skip
    assert await store.commit(everything)
    assert await names_in(store) == ["q", "a"]
    assert await store.find("alice", "h") == ("trip", True)
    assert await store.response(Key("alice", "resp_1")) == ended
    assert await store.events(Key("alice", "resp_1"), -1) == [events(0, 3)]
    assert await store.get_completion(Key("alice", "c")) == completion("c")
    assert [found.id for found in await store.approvals("alice")] == ["ask_1", "ask_2"]
    assert (await store.renew(["t1"])).held == frozenset()
    assert await store.begin(ALICE, "t2") is not None


async def test_a_turn_that_has_lost_its_lock_writes_nothing_of_all_that(store: Store) -> None:
    await store.begin_response("alice", response(), "t1")
    refused = turn(
        "t1",
        "q",
        response=done(response()),
        events=events(0, 3),
        completion=completion("c"),
        approvals=(approval("x"),),
    )
    assert not await store.commit(refused)
    assert await store.read(ALICE) is None
    assert await store.response(Key("alice", "resp_1")) == response()
    assert await store.events(Key("alice", "resp_1"), -1) == []
    assert await store.get_completion(Key("alice", "c")) is None
    assert await store.approvals("alice") == []


async def test_a_second_commit_of_the_same_turn_is_true_and_changes_nothing(store: Store) -> None:
    await store.begin(ALICE, "t1")
    await store.begin_response("alice", response(), "t1")
    outcome = turn("t1", "a", response=done(response()), events=events(0, 1))
    assert await store.commit(outcome)
    assert await store.commit(outcome)
    assert await names_in(store) == ["a"]
    await said(store, "t2", "b")
    assert await store.commit(outcome)
    assert await names_in(store) == ["a", "b"]
    found = await store.read(ALICE)
    assert found is not None
    assert found.version == 2


async def test_a_second_commit_is_true_although_the_conversation_was_deleted_meanwhile(store: Store) -> None:
    await store.begin(ALICE, "t1")
    outcome = turn("t1", "a")
    assert await store.commit(outcome)
    assert await store.delete(ALICE)
    assert await store.commit(outcome)
    assert await store.read(ALICE) is None


async def test_a_commit_without_locks_is_kept_too(store: Store) -> None:
    outcome = TurnCommit(principal="alice", token="t1", completion=completion("c"))
    assert await store.commit(outcome)
    assert await store.commit(outcome)
    assert await store.get_completion(Key("alice", "c")) == completion("c")


async def test_of_many_commits_of_one_turn_at_once_it_is_written_once(store: Store) -> None:
    await store.begin(ALICE, "t1")
    kept: list[bool] = []

    async def commit() -> None:
        kept.append(await store.commit(turn("t1", "a")))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(commit)
    assert kept == [True] * 8
    assert await names_in(store) == ["a"]
    found = await store.read(ALICE)
    assert found is not None
    assert found.version == 1


async def test_turns_of_many_conversations_at_once_do_not_mix(store: Store) -> None:
    async def talk(name: str) -> None:
        for number in range(4):
            await said(store, f"{name}{number}", f"{name}{number}", key=Key("alice", name))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for name in "abcdefgh":
                group.start_soon(talk, name)
    for name in "abcdefgh":
        assert await names_in(store, Key("alice", name)) == [f"{name}{number}" for number in range(4)]


async def test_renewal_tells_what_is_held_whatever_it_is(store: Store) -> None:
    await store.begin(ALICE, "locked")
    await store.begin_response("alice", response(), "responding")
    await store.take_slot("pool", "seated", 2)
    await store.claim(ALICE, "body", "claiming")
    tokens = ["locked", "responding", "seated", "claiming"]
    assert (await store.renew([*tokens, "nobody"])).held == set(tokens)
    await store.release(ALICE, "locked")
    await store.free_slot("pool", "seated")
    await store.settle(ALICE, "claiming", ANSWER)
    assert (await store.renew(tokens)).held == {"responding"}
    assert (await store.renew([])).held == frozenset()


# idempotency keys


async def test_an_idempotency_key_is_taken_once_and_then_replayed(store: Store) -> None:
    assert await store.claim(ALICE, "body", "t1") == "taken"
    assert await store.claim(ALICE, "body", "t2") == "running"
    assert await store.claim(ALICE, "other body", "t2") == "other request"
    await store.settle(ALICE, "t1", ANSWER)
    assert await store.claim(ALICE, "body", "t3") == ANSWER
    assert await store.claim(ALICE, "other body", "t3") == "other request"
    assert await store.claim(BOB, "body", "t4") == "taken"


async def test_of_many_claims_at_once_one_takes_the_key(store: Store) -> None:
    claims: list[Claim] = []

    async def claim(token: str) -> None:
        claims.append(await store.claim(ALICE, "body", token))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for number in range(16):
                group.start_soon(claim, f"t{number}")
    assert sorted([str(found) for found in claims]) == ["running"] * 15 + ["taken"]


async def test_a_key_given_back_is_free_and_only_its_holder_gives_it_back(store: Store) -> None:
    await store.claim(ALICE, "body", "t1")
    await store.settle(ALICE, "stranger", None)
    await store.settle(ALICE, "stranger", ANSWER)
    assert await store.claim(ALICE, "body", "t2") == "running"
    await store.settle(ALICE, "t1", None)
    assert await store.claim(ALICE, "other body", "t3") == "taken"


async def test_the_first_answer_stays(store: Store) -> None:
    await store.claim(ALICE, "body", "t1")
    await store.settle(ALICE, "t1", ANSWER)
    await store.settle(ALICE, "t1", None)
    assert await store.claim(ALICE, "body", "t2") == ANSWER


async def test_of_a_key_whose_process_died_nobody_knows_what_was_done(sql_store: SqlStore) -> None:
    await sql_store.claim(ALICE, "body", "dead", lease=10)
    await time_passes(sql_store.engine, 11)
    assert await sql_store.claim(ALICE, "body", "t2") == "lost"
    assert await sql_store.claim(ALICE, "other", "t2") == "other request"


# slots


async def test_a_pool_has_so_many_slots(store: Store) -> None:
    assert [await store.take_slot("pool", f"t{number}", 2) for number in range(3)] == [True, True, False]
    assert await store.take_slot("other pool", "t2", 2)
    await store.free_slot("pool", "stranger")
    assert not await store.take_slot("pool", "t2", 2)
    await store.free_slot("pool", "t0")
    assert await store.take_slot("pool", "t2", 2)


async def test_a_pool_may_grow_and_shrink(store: Store) -> None:
    assert not await store.take_slot("pool", "t0", 0)
    assert await store.take_slot("pool", "t0", 1)
    assert await store.take_slot("pool", "t1", 3)
    assert await store.take_slot("pool", "t2", 3)
    await store.free_slot("pool", "t1")
    assert not await store.take_slot("pool", "t3", 1)


async def test_a_slot_is_taken_once_by_a_token_however_often_it_asks(store: Store) -> None:
    assert await store.take_slot("pool", "t0", 2)
    assert await store.take_slot("pool", "t0", 2)
    assert await store.take_slot("pool", "t1", 2)
    assert not await store.take_slot("pool", "t2", 2)


async def test_of_many_at_once_as_many_get_a_slot_as_there_are(store: Store) -> None:
    taken: list[str] = []

    async def take(token: str) -> None:
        if await store.take_slot("pool", token, 5):
            taken.append(token)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(take, f"t{number}")
    assert len(taken) <= 5
    for number in range(20, 26):
        await take(f"t{number}")
    assert len(taken) == 5


async def test_the_slot_of_a_dead_process_is_free_after_its_lease(sql_store: SqlStore) -> None:
    await sql_store.take_slot("pool", "dead", 2, lease=10)
    await sql_store.take_slot("pool", "living", 2, lease=10)
    await time_passes(sql_store.engine, 6)
    await sql_store.renew(["living"], lease=10)
    await time_passes(sql_store.engine, 6)
    assert await sql_store.take_slot("pool", "t", 2)
    assert not await sql_store.take_slot("pool", "t2", 2)


# rates


async def test_a_burst_passes_then_requests_wait_for_their_time(store: Store) -> None:
    allowed = [await store.allow(ALICE, 0.01, 3) for _ in range(4)]
    assert [found.remaining for found in allowed] == [2, 1, 0, 0]
    assert [found.wait == 0 for found in allowed] == [True, True, True, False]
    assert 90 < allowed[-1].wait <= 100
    assert (await store.allow(BOB, 0.01, 3)).remaining == 2


async def test_of_many_requests_at_once_no_more_than_the_burst_pass(store: Store) -> None:
    allowed: list[Allowance] = []

    async def ask() -> None:
        allowed.append(await store.allow(ALICE, 0.001, 7))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(ask)
    assert len([found for found in allowed if found.wait == 0]) == 7


async def test_what_was_used_of_a_rate_comes_back_with_time(sql_store: SqlStore) -> None:
    for _ in range(3):
        await sql_store.allow(ALICE, 0.1, 3)
    assert (await sql_store.allow(ALICE, 0.1, 3)).wait > 0
    await time_passes(sql_store.engine, 10)
    assert (await sql_store.allow(ALICE, 0.1, 3)).wait == 0
    assert (await sql_store.allow(ALICE, 0.1, 3)).wait > 0
    await time_passes(sql_store.engine, 1000)
    assert (await sql_store.allow(ALICE, 0.1, 3)).remaining == 2


@requirement("rates.tokens")
async def test_what_turns_charge_is_added_to_a_rate_whatever_it_comes_to(store: Store) -> None:
    tokens = Key("alice", "tokens")
    assert await store.ahead(tokens) == 0

    async def end(number: int) -> None:
        assert await store.commit(
            TurnCommit(principal="alice", token=f"t{number}", charges=(Charge("tokens", 1000.0),))
        )

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(end, number)
    assert 19_000 < await store.ahead(tokens) <= 20_000
    assert await store.ahead(Key("bob", "tokens")) == 0
    again = TurnCommit(principal="alice", token="t1", charges=(Charge("tokens", 9e9),))
    assert await store.commit(again)  # repeated, since its answer was lost
    lost = TurnCommit(principal="alice", token="x", conversation=ConversationTurn("gone", ()), charges=again.charges)
    assert not await store.commit(lost)
    assert await store.ahead(tokens) <= 20_000


@requirement("rates.tokens")
async def test_what_was_charged_to_a_rate_is_allowed_for_with_time(sql_store: SqlStore) -> None:
    tokens = Key("alice", "tokens")
    await sql_store.commit(TurnCommit(principal="alice", token="t1", charges=(Charge("tokens", 1000.0),)))
    await time_passes(sql_store.engine, 600)
    assert 300 < await sql_store.ahead(tokens) <= 400
    await time_passes(sql_store.engine, 5000)
    assert await sql_store.ahead(tokens) == 0
    await sql_store.commit(TurnCommit(principal="alice", token="t2", charges=(Charge("tokens", 1000.0),)))
    assert 900 < await sql_store.ahead(tokens) <= 1000  # nothing was saved up


async def test_a_store_that_answers_passes_its_check(store: Store) -> None:
    await store.check()


@requirement("several.supersede")
async def test_who_holds_a_conversation_hears_that_a_newer_turn_is_to_have_it(store: Store) -> None:
    await store.begin(ALICE, "old")
    assert await store.want(ALICE, "new", 100.0, newest=True)
    assert await store.begin(ALICE, "new") is None
    renewal = await store.renew(["old", "new"])
    assert (renewal.held, renewal.superseded) == ({"old"}, {"old"})
    await store.release(ALICE, "old")
    assert await store.begin(ALICE, "new") is not None
    renewal = await store.renew(["new"])
    assert (renewal.held, renewal.superseded) == ({"new"}, frozenset())
    assert await store.commit(turn("new", "a"))
    assert await store.begin(ALICE, "later") is not None
    assert (await store.renew(["later"])).superseded == frozenset()


@requirement("several.supersede")
async def test_of_several_that_are_to_have_a_conversation_the_newest_gets_it(store: Store) -> None:
    await said(store, "t", "a")
    await store.begin(ALICE, "old")
    assert await store.want(ALICE, "newer", 100.0, newest=True)
    assert await store.want(ALICE, "newest", 100.0, newest=True)
    assert not await store.want(ALICE, "newer", 100.0, newest=False)
    assert await store.want(ALICE, "newest", 100.0, newest=False)
    await store.release(ALICE, "old")
    assert await store.begin(ALICE, "newer") is not None  # this turn does not know the newer message yet
    assert (await store.renew(["newer"])).superseded == {"newer"}
    assert await store.want(Key("bob", "trip"), "theirs", 1.0, newest=True)
    assert await store.want(Key("bob", "trip"), "theirs", 1.0, newest=False)


@requirement("several.supersede")
async def test_a_dead_process_supersedes_nobody_for_long(sql_store: SqlStore) -> None:
    await sql_store.begin(ALICE, "old", 100.0)
    assert await sql_store.want(ALICE, "dead", 3.0, newest=True)
    await time_passes(sql_store.engine, 4)
    assert (await sql_store.renew(["old"], 100.0)).superseded == frozenset()
    assert await sql_store.want(ALICE, "new", 3.0, newest=False)
    assert (await sql_store.renew(["old"], 100.0)).superseded == {"old"}
