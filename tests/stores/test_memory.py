"""What the memory engine lets go of, and what it must not."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat import MemoryStore
from openai_compat.stores.memory_limits import MAX_REPLAY_BYTES
from openai_compat.stores.port import Key, Replay

from .samples import said
from .samples import turn as outcome

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def key(name: str) -> Key:
    return Key("alice", name)


async def turn(store: MemoryStore, name: str) -> None:
    await said(store, secrets.token_hex(8), "item", key=key(name))


async def known(store: MemoryStore, *names: str) -> list[str]:
    return [name for name in names if await store.read(key(name)) is not None]


async def test_the_conversation_unused_for_longest_goes_first() -> None:
    store = MemoryStore(max_items=2)
    await turn(store, "a")
    await turn(store, "b")
    await turn(store, "a")
    await turn(store, "c")
    assert await known(store, "a", "b", "c") == ["a", "c"]


async def test_an_idle_conversation_is_kept_until_its_time_is_up_and_use_renews_it() -> None:
    clock = Clock()
    store = MemoryStore(ttl=60, clock=clock)
    await turn(store, "a")
    await turn(store, "b")
    clock.now += 59
    await turn(store, "a")
    clock.now += 1
    assert await known(store, "a", "b") == ["a"]


async def test_a_running_conversation_outlasts_limit_and_time() -> None:
    clock = Clock()
    store = MemoryStore(max_items=1, ttl=60, clock=clock)
    await turn(store, "running")
    await store.begin(key("running"), "long")
    clock.now += 1000
    await turn(store, "other")
    assert await store.commit(outcome("long", "item", key=key("running")))


async def test_a_replay_that_others_may_still_need_is_not_dropped_while_it_runs() -> None:
    store = MemoryStore(max_items=1)
    await store.claim(key("a"), "body", "t1")
    await store.claim(key("b"), "body", "t2")
    await store.settle(key("b"), "t2", Replay(200, (), b""))
    await store.claim(key("c"), "body", "t3")
    assert await store.claim(key("a"), "body", "t4") == "running"
    assert await store.claim(key("b"), "body", "t5") == "taken"


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 40)), max_size=40), st.integers(1, 4))
async def test_no_more_is_kept_than_allowed_and_the_latest_always_is(uses: list[tuple[str, int]], limit: int) -> None:
    clock = Clock()
    store = MemoryStore(max_items=limit, ttl=60, clock=clock)
    for name, pause in uses:
        clock.now += pause
        await turn(store, name)
        found = await known(store, *"abcdef")
        assert len(found) <= limit
        assert name in found


async def test_recorded_answers_are_bounded_in_bytes_too() -> None:
    store, answer = MemoryStore(), Replay(200, (), b"x" * (MAX_REPLAY_BYTES // 4))
    for number in range(5):
        await store.claim(key(str(number)), "body", "t")
        await store.settle(key(str(number)), "t", answer)
    assert await store.claim(key("1"), "body", "t") == answer
    assert await store.claim(key("0"), "body", "t") == "taken"
