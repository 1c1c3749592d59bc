"""Which data the memory engine drops, and which it must not."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat import MemoryStore
from openai_compat.errors import Conflict
from openai_compat.stores.port import (
    LOG_BYTES,
    ConversationTurn,
    Events,
    Item,
    Key,
    Page,
    Replay,
    StoredCompletion,
    TurnCommit,
)
from tests.requirements import requirement
from tests.stores.samples import approval, done, events, file, names_in, response, said
from tests.stores.samples import turn as outcome

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
    await store.settle(key("c"), "t3", Replay(200, (), b""))
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


# bounds in bytes

MEBIBYTE = 1024 * 1024
ROOM: dict[str, Any] = {"max_bytes": 8 * MEBIBYTE, "max_bytes_per_principal": 2 * MEBIBYTE}
LARGE = "x" * (MEBIBYTE // 4)


async def put_conversation(store: MemoryStore, key: Key, text: str) -> None:
    await store.create(key.principal, key.id, {"topic": "t"}, [Item("i", text)])


async def put_turns(store: MemoryStore, key: Key, text: str) -> None:
    token = secrets.token_hex(8)
    await store.begin(key, token)
    added = ConversationTurn(key.id, (Item(token, text),), transcript=token)
    assert await store.commit(TurnCommit(principal=key.principal, token=token, conversation=added))


async def put_response(store: MemoryStore, key: Key, text: str) -> None:
    kept = response(key.id, status="completed", input=(Item("i", text),))
    assert await store.commit(TurnCommit(principal=key.principal, token=secrets.token_hex(8), response=kept))


async def put_log(store: MemoryStore, key: Key, text: str) -> None:
    token, begun = secrets.token_hex(8), response(key.id)
    await store.begin_response(key.principal, begun, token)
    await store.append([(key, token, Events(0, 9, text.encode()))])
    assert await store.commit(
        TurnCommit(principal=key.principal, token=token, response=done(begun), events=events(10, 11))
    )


async def put_completion(store: MemoryStore, key: Key, text: str) -> None:
    await store.put_completion(key.principal, StoredCompletion(key.id, 1.0, "m", {}, "{}", text))


async def put_file(store: MemoryStore, key: Key, text: str) -> None:
    await store.put_file(key.principal, file(key.id), text.encode())


async def put_approval(store: MemoryStore, key: Key, text: str) -> None:
    await store.ask(key.principal, approval(key.id, arguments=text))


async def put_replay(store: MemoryStore, key: Key, text: str) -> None:
    await store.claim(key, "body", key.id)
    await store.settle(key, key.id, Replay(200, (), text.encode()))


Put: TypeAlias = Callable[[MemoryStore, Key, str], Awaitable[None]]
Read: TypeAlias = Callable[[MemoryStore, Key], Awaitable[Any]]

READS: dict[str, tuple[Put, Read]] = {
    "conversations": (put_conversation, lambda store, key: store.read(key)),
    "turns": (put_turns, lambda store, key: store.read(key)),
    "responses": (put_response, lambda store, key: store.response(key)),
    "event logs": (put_log, lambda store, key: store.events(key, -1)),
    "completions": (put_completion, lambda store, key: store.get_completion(key)),
    "files": (put_file, lambda store, key: store.file_content(key)),
    "approvals": (put_approval, lambda store, key: store.approval(key)),
    "replays": (put_replay, lambda store, key: store.claim(key, "body", "other")),
}
"""How each kind of data is stored, and read again."""


async def all_of(store: MemoryStore, key: Key) -> dict[str, Any]:
    return {kind: await read(store, Key(key.principal, kind)) for kind, (_, read) in READS.items()}


@requirement("store.bounded")
@pytest.mark.parametrize("kind", READS)
async def test_one_principal_fills_its_part_and_anothers_is_as_it_was(kind: str) -> None:
    store = MemoryStore(**ROOM)
    for name, (put, _) in READS.items():
        await put(store, Key("bob", name), "small")
    before = await all_of(store, Key("bob", ""))
    assert all(before.values())

    put, read = READS[kind]
    for number in range(40):
        await put(store, Key("alice", str(number)), LARGE)
        assert store.size_of("alice") <= ROOM["max_bytes_per_principal"]
        assert await read(store, Key("alice", str(number)))

    assert await all_of(store, Key("bob", "")) == before


@requirement("store.bounded")
@pytest.mark.parametrize("kind", READS)
async def test_a_principal_with_a_thousand_small_things_evicts_only_its_own(kind: str) -> None:
    store = MemoryStore(max_items=10)
    put, read = READS[kind]
    await put(store, Key("bob", "his"), "small")
    for number in range(30):
        await put(store, Key("alice", str(number)), "small")

    assert await read(store, Key("bob", "his"))
    if kind != "replays":
        assert not await read(store, Key("alice", "0"))
    assert await read(store, Key("alice", "29"))


@requirement("store.bounded")
async def test_many_principals_together_stay_within_the_total_and_the_smallest_keeps_all() -> None:
    store = MemoryStore(**ROOM)
    await put_response(store, Key("bob", "his"), "small")
    for number in range(400):
        await put_response(store, Key(f"p{number % 20}", str(number)), LARGE)
        assert store.size <= ROOM["max_bytes"] + 2 * len(LARGE)

    assert await store.response(Key("bob", "his"))


@pytest.mark.parametrize("kind", READS)
async def test_what_is_deleted_or_too_old_counts_no_more(kind: str) -> None:
    clock = Clock()
    store = MemoryStore(ttl=60, clock=clock)
    put, _ = READS[kind]
    await put(store, Key("alice", "it"), LARGE)
    assert len(LARGE) < store.size < 2 * len(LARGE)
    clock.now += 90_000
    await store.sweep()
    for delete in (store.delete, store.delete_response, store.delete_completion, store.delete_file):
        await delete(Key("alice", "it"))
    assert (store.size == 0) is (kind != "approvals")


async def test_a_conversation_that_would_outgrow_its_principals_part_is_refused_and_stays_as_it_was() -> None:
    store = MemoryStore(**ROOM)
    for _ in range(6):
        await put_turns(store, key("long"), LARGE)
    before = await store.read(key("long"))
    await store.begin(key("long"), "t")
    too_much = ConversationTurn("long", (Item("i", "x" * MEBIBYTE),))
    with pytest.raises(Conflict) as refusal:
        await store.commit(TurnCommit(principal="alice", token="t", conversation=too_much))
    assert refusal.value.code == "conversation_full"
    await store.release(key("long"), "t")
    assert before is not None
    assert await store.page(key("long"), None, 100, "asc") == Page(before.items, more=False)


async def test_what_turns_hold_is_not_dropped_for_what_comes_meanwhile() -> None:
    store = MemoryStore(**ROOM)
    await put_turns(store, key("running"), LARGE)
    await store.begin(key("running"), "turn")
    await store.begin_response("alice", response("resp_1"), "turn")
    await store.claim(key("k"), "body", "turn")
    for number in range(20):
        await put_completion(store, key(str(number)), LARGE)
    assert (await store.renew(["turn"])).held == {"turn"}
    assert await store.claim(key("k"), "body", "other") == "running"
    assert await store.commit(outcome("turn", "more", key=key("running")))
    assert await names_in(store, key("running"))


async def test_a_long_log_forgets_its_beginning() -> None:
    store, begun, half = MemoryStore(), response(), b"x" * (LOG_BYTES // 2)
    await store.begin_response("alice", begun, "t")
    for number in range(5):
        assert await store.append([(key("resp_1"), "t", Events(number, number, half))])
    assert [batch.first for batch in await store.events(key("resp_1"), -1)] == [4]
