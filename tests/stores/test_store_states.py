"""Agent state left by turns: stored with its conversation, response or pause, found by it, and deleted with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from openai_compat.stores.port import AgentState, Chain, Key, Store, TurnCommit
from openai_compat.stores.sql import SqlStore
from tests.stores.samples import ALICE, BOB, SOON, done, items, response, said, time_passes, turn

pytestmark = pytest.mark.anyio

PAUSE = Key("alice", "p1")


def state(session: str = "s1", **more: Any) -> AgentState:
    """The state after the first turn of Alice's conversation."""
    defaults: dict[str, Any] = {"of": "conversation", "id": "trip", "agent": "shop\0", "turn": 1}
    return AgentState(**({"session": session, "body": '{"at": "\\u0000"}'} | defaults | more))


def pause(session: str = "s1", **more: Any) -> AgentState:
    return state(session, **({"of": "pause", "id": "p1", "turn": 0, "expires": SOON} | more))


def after(name: str, session: str = "s1") -> AgentState:
    """The state after a response."""
    return state(session, of="response", id=name, turn=0)


async def leaves(store: Store, token: str, *states: AgentState, key: Key = ALICE) -> None:
    """Commit a turn that leaves these states."""
    assert await store.begin(key, token) is not None
    assert await store.commit(turn(token, token, key=key, states=states))


async def paused(store: Store, *states: AgentState) -> None:
    assert await store.commit(TurnCommit(principal="alice", token="paused", states=states))


async def latest(store: Store, key: Key = ALICE) -> AgentState | None:
    """The state that the next turn of a conversation finds."""
    found = await store.begin(key, "look")
    assert found is not None
    await store.release(key, "look")
    return found.latest_state


async def gone(store: Store) -> list[tuple[str, str]]:
    """The unreachable states: the principal and the session of each."""
    return [(principal, left.session) for principal, left in await store.gone_states(None, 100)]


async def test_the_next_turn_of_a_conversation_finds_what_the_last_one_has_left(store: Store) -> None:
    await leaves(store, "t1", state())
    assert await latest(store) == state()
    assert await latest(store, BOB) is None
    found = await store.read(ALICE)
    assert found is not None
    assert found.latest_state == state()
    second = state(turn=2, body="{}")
    await leaves(store, "t2", second)
    assert await latest(store) == second


async def test_a_turn_that_leaves_nothing_makes_what_was_left_before_an_old_one(store: Store) -> None:
    await leaves(store, "t1", state())
    await said(store, "t2", "b")
    assert await latest(store) is None
    found = await store.read(ALICE)
    assert found is not None
    assert found.state == state()  # it still names its session


async def test_a_commit_that_fails_leaves_the_state_as_it_was(store: Store) -> None:
    await leaves(store, "t1", state())
    assert await store.begin(ALICE, "holder") is not None
    assert not await store.commit(turn("thief", "b", states=(state("s2", turn=2),)))
    await store.release(ALICE, "holder")
    assert await latest(store) == state()


async def test_a_deleted_item_takes_the_state_with_it(store: Store) -> None:
    await leaves(store, "t1", state())
    assert not await store.delete_item(ALICE, "no such")
    assert await latest(store) == state()
    assert await store.delete_item(ALICE, "t1")
    assert await latest(store) is None
    assert await gone(store) == [("alice", "s1")]


async def test_a_conversation_may_be_made_with_a_state(store: Store) -> None:
    made = await store.create("alice", "copy", {}, items("a"), state(id="copy"))
    assert made.latest_state == state(id="copy")
    assert await latest(store, Key("alice", "copy")) == state(id="copy")


async def test_a_response_keeps_what_it_has_left_for_each_that_continues_it(store: Store) -> None:
    link = done(response("resp_1"), output=items("a1"))
    await store.commit(TurnCommit(principal="alice", token="t1", response=link, states=(after("resp_1"),)))
    for _ in range(2):
        assert await store.chain(Key("alice", "resp_1")) == Chain(items("a1"), after("resp_1"))
    fork = done(response("resp_2"), previous="resp_1", output=items("a2"))
    await store.commit(TurnCommit(principal="alice", token="t2", response=fork))
    assert await store.chain(Key("alice", "resp_2")) == Chain(items("a1", "a2"))
    assert await store.chain(Key("bob", "resp_1")) is None


async def test_a_pause_is_used_once(store: Store) -> None:
    await paused(store, pause())
    assert await store.pause(PAUSE) == pause()
    assert await store.pause(Key("bob", "p1")) is None
    assert not await store.use_pause(Key("bob", "p1"), 60)
    assert [await store.use_pause(PAUSE, 60), await store.use_pause(PAUSE, 60)] == [True, False]
    assert await store.pause(PAUSE) == pause()
    await store.return_pause(PAUSE)
    assert await store.use_pause(PAUSE, 60)
    await store.end_pause(PAUSE)
    assert await store.pause(PAUSE) is None
    assert not await store.use_pause(PAUSE, 60)


async def test_a_pause_whose_process_has_died_can_be_used_again(store: Store) -> None:
    await paused(store, pause())
    assert await store.use_pause(PAUSE, -10)
    assert await store.use_pause(PAUSE, 60)
    assert not await store.use_pause(PAUSE, 60)


async def test_a_pause_expires_and_is_swept_away(store: Store) -> None:
    await paused(store, pause(expires=1.0))
    assert await store.pause(PAUSE) is None
    assert not await store.use_pause(PAUSE, 60)
    assert await store.sweep() == 1
    assert await gone(store) == [("alice", "s1")]


async def test_a_session_is_not_needed_once_nothing_leads_to_one_of_its_states(store: Store) -> None:
    await leaves(store, "t1", state())
    link = done(response("resp_1"))
    await store.commit(TurnCommit(principal="alice", token="t2", response=link, states=(after("resp_1"),)))
    await paused(store, pause())
    await leaves(store, "t3", state(), key=BOB)
    assert await store.delete(ALICE)
    assert await gone(store) == []
    assert await store.delete_response(Key("alice", "resp_1"))
    assert await gone(store) == []
    assert await store.use_pause(PAUSE, 60)
    assert await gone(store) == []
    assert await store.delete(BOB)
    assert await gone(store) == [("bob", "s1")]


async def test_a_state_that_is_gone_is_there_until_it_is_forgotten(store: Store) -> None:
    for number in range(3):
        key = Key("alice", f"c{number}")
        await leaves(store, f"t{number}", state(f"s{number}", id=key.id), key=key)
        assert await store.delete(key)
    first = await store.gone_states(None, 2)
    assert [left.session for _, left in first] == ["s0", "s1"]
    rest = await store.gone_states(Key("alice", first[-1][1].id), 2)
    assert [(left.agent, left.session, left.body) for _, left in rest] == [("shop\0", "s2", state().body)]
    for principal, left in (*first, *rest):
        await store.forget_state(Key(principal, left.id))
    assert await gone(store) == []


async def test_a_state_that_takes_the_place_of_another_session_tells_that_that_one_is_gone(store: Store) -> None:
    await leaves(store, "t1", state())
    await leaves(store, "t2", state("s2", turn=2), state().gone())
    assert await latest(store) == state("s2", turn=2)
    assert await gone(store) == [("alice", "s1")]


async def test_the_sweep_takes_states_with_what_they_belong_to(sql_store: SqlStore) -> None:
    await leaves(sql_store, "t1", state())
    link = done(response("resp_1"))
    left = after("resp_1", "s2")
    await sql_store.commit(TurnCommit(principal="alice", token="t2", response=link, states=(left,)))
    await time_passes(sql_store.engine, 100)
    await sql_store.sweep(50)
    assert await gone(sql_store) == [("alice", "s1"), ("alice", "s2")]
    await sql_store.sweep(50)
    assert len(await gone(sql_store)) == 2
    await time_passes(sql_store.engine, 100)
    await sql_store.sweep(50)  # no agent has forgotten them
    assert await gone(sql_store) == []


async def test_what_a_conversation_holds_can_be_told_apart_from_what_a_response_does(store: Store) -> None:
    await leaves(store, "t1", state())
    link = done(response("trip"))
    left = replace(after("trip"), session="s2")
    await store.commit(TurnCommit(principal="alice", token="t2", response=link, states=(left,)))
    assert await store.delete(ALICE)
    assert await store.chain(Key("alice", "trip")) == Chain((), left)
