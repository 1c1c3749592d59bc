"""Webhook notices in every store."""

from __future__ import annotations

import pytest

from openai_compat.stores.port import Key, Store, TurnCommit
from openai_compat.stores.sql import SqlStore
from tests.requirements import requirement
from tests.stores.samples import done, notice, response, time_passes, turn

pytestmark = pytest.mark.anyio


async def put(store: Store, *names: str, target: str = "app") -> None:
    notices = tuple([notice(name, target) for name in names])
    assert await store.commit(TurnCommit(principal="alice", token=f"put {names}", notices=notices))


async def taken(store: Store, token: str = "t", target: str = "app", limit: int = 8, ahead: float = 0.0) -> list[str]:
    return [one.id for one in await store.take_notices(target, token, limit, 10.0, ahead)]


async def test_a_notice_is_taken_once_by_whom_it_is_for_in_the_order_in_which_they_came(store: Store) -> None:
    await put(store, "a", "b")
    await put(store, "other", target="else\0where")
    await put(store, "c")
    assert await store.targets() == {"app": 3, "else\0where": 1}
    assert await taken(store, limit=2) == ["a", "b"]
    assert await taken(store, "another") == ["c"]
    assert await taken(store) == []
    [other] = await store.take_notices("else\0where", "t", 8, 10.0)
    assert (other.id, other.body, other.attempt) == ("other", '{"id": "other"}', 0)


async def test_one_that_was_sent_in_vain_is_due_again_later_for_anybody(store: Store) -> None:
    await put(store, "a")
    [first] = await store.take_notices("app", "t", 8, 10.0)
    await store.defer_notice(first.number, "somebody else", 0.0)
    assert await taken(store) == []
    await store.defer_notice(first.number, "t", 100.0)
    assert await taken(store) == []
    [again] = await store.take_notices("app", "another", 8, 10.0, ahead=101.0)
    assert (again.id, again.attempt, again.number) == ("a", 1, first.number)
    await store.end_notice(again.number)
    await store.end_notice(again.number)
    assert await store.targets() == {}


@requirement("webhooks.kept")
async def test_a_notice_is_there_if_and_only_if_the_outcome_is(store: Store) -> None:
    await store.begin(Key("alice", "trip"), "t1")
    outcome = turn("t1", "a", notices=(notice("kept"),))
    assert await store.commit(outcome)
    assert await store.commit(outcome)  # repeated, since its answer was lost
    assert not await store.commit(turn("t2", "b", notices=(notice("lost"),)))
    assert await taken(store) == ["kept"]


@requirement("webhooks.kept")
async def test_a_response_that_is_taken_over_brings_its_notice(store: Store) -> None:
    await store.begin_response("alice", response(), "t1")
    assert await store.take_response("alice", done(response()), None, [notice("a")])
    assert not await store.take_response("alice", done(response()), None, [notice("b")])
    assert await taken(store) == ["a"]


@requirement("webhooks.kept")
async def test_what_a_dead_process_had_taken_is_taken_again(sql_store: SqlStore) -> None:
    await put(sql_store, "a")
    assert await taken(sql_store, "dead") == ["a"]
    await time_passes(sql_store.engine, 9)
    assert await taken(sql_store, "living") == []
    await time_passes(sql_store.engine, 2)
    assert await taken(sql_store, "living") == ["a"]


@requirement("webhooks.kept")
async def test_a_response_in_the_background_of_a_dead_process_is_found_and_brings_its_notice(
    sql_store: SqlStore,
) -> None:
    begun = response(background=True)
    await sql_store.begin_response("al\0ice", begun, "dead", 10.0)
    await sql_store.begin_response("alice", response("resp_2"), "dead", 10.0)
    assert await sql_store.lost_responses(10) == []
    await time_passes(sql_store.engine, 11)
    assert await sql_store.lost_responses(10) == [Key("al\0ice", "resp_1")]
    assert await sql_store.end_response("al\0ice", done(begun), None, [notice("a")])
    assert await sql_store.lost_responses(10) == []
    assert await taken(sql_store) == ["a"]
