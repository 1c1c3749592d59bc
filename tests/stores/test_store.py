"""What every store engine must do. New engines join ENGINES."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from openai_compat import MemoryStore
from openai_compat.stores.port import Key, Replay, Store, StoredCompletion

pytestmark = pytest.mark.anyio
ENGINES: dict[str, Callable[[], Store]] = {"memory": MemoryStore}
ALICE, BOB = Key("alice", "trip"), Key("bob", "trip")


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest) -> Store:
    return ENGINES[request.param]()


def kept(identifier: str, **metadata: str) -> StoredCompletion:
    return StoredCompletion(identifier, 1.0, "m", metadata, "{}", "[]")


async def test_a_new_conversation_begins_empty(store: Store) -> None:
    found = await store.begin(ALICE, "t1")
    assert found is not None
    assert (found.version, found.turns) == (0, ())


async def test_committed_turns_come_back_in_order(store: Store) -> None:
    for number in ("1", "2", "3"):
        await store.begin(ALICE, number)
        assert await store.commit(ALICE, number, f'["{number}"]', None)
    found = await store.read(ALICE)
    assert found is not None
    assert (found.version, found.turns) == (3, ('["1"]', '["2"]', '["3"]'))


async def test_a_second_turn_finds_the_conversation_locked(store: Store) -> None:
    await store.begin(ALICE, "t1")
    assert await store.begin(ALICE, "t2") is None
    await store.release(ALICE, "t1")
    assert await store.begin(ALICE, "t2") is not None


async def test_only_the_holder_of_the_lock_commits_or_releases(store: Store) -> None:
    await store.begin(ALICE, "t1")
    assert not await store.commit(ALICE, "stranger", "[]", None)
    await store.release(ALICE, "stranger")
    assert await store.begin(ALICE, "t2") is None
    assert await store.commit(ALICE, "t1", "[]", None)
    assert not await store.commit(ALICE, "t1", "[]", None)


async def test_a_turn_that_was_released_leaves_nothing(store: Store) -> None:
    await store.begin(ALICE, "t1")
    await store.release(ALICE, "t1")
    assert await store.read(ALICE) is None
    assert not await store.delete(ALICE)


async def test_the_same_id_of_another_principal_is_another_conversation(store: Store) -> None:
    await store.begin(ALICE, "t1")
    await store.commit(ALICE, "t1", '["hers"]', "hash")
    assert await store.read(BOB) is None
    assert not await store.delete(BOB)
    assert await store.find("bob", "hash") is None


async def test_a_conversation_deleted_while_a_turn_runs_is_not_brought_back(store: Store) -> None:
    await store.begin(ALICE, "t1")
    await store.commit(ALICE, "t1", "[]", None)
    await store.begin(ALICE, "t2")
    assert await store.delete(ALICE)
    assert not await store.commit(ALICE, "t2", "[]", None)
    assert await store.read(ALICE) is None


async def test_a_transcript_finds_its_conversation_and_knows_if_it_went_on(store: Store) -> None:
    await store.begin(ALICE, "t1")
    await store.commit(ALICE, "t1", "[]", "one")
    assert await store.find("alice", "one") == ("trip", True)
    await store.begin(ALICE, "t2")
    await store.commit(ALICE, "t2", "[]", "two")
    assert await store.find("alice", "one") == ("trip", False)
    assert await store.find("alice", "two") == ("trip", True)
    await store.delete(ALICE)
    assert await store.find("alice", "two") is None


async def test_completions_are_kept_changed_listed_and_deleted_by_their_owner_only(store: Store) -> None:
    await store.put_completion("alice", kept("c1"))
    await store.put_completion("alice", kept("c2"))
    await store.put_completion("alice", kept("c1", label="x"))
    assert [found.id for found in await store.list_completions("alice")] == ["c1", "c2"]
    assert await store.get_completion(Key("alice", "c1")) == kept("c1", label="x")
    assert await store.get_completion(Key("bob", "c1")) is None
    assert not await store.delete_completion(Key("bob", "c1"))
    assert await store.delete_completion(Key("alice", "c1"))
    assert not await store.delete_completion(Key("alice", "c1"))


async def test_an_idempotency_key_is_taken_once_and_then_replayed(store: Store) -> None:
    answer = Replay(200, (("content-type", "application/json"),), b"{}")
    assert await store.claim(ALICE, "body", "t1") == "taken"
    assert await store.claim(ALICE, "body", "t2") == "running"
    assert await store.claim(ALICE, "other body", "t2") == "other request"
    await store.settle(ALICE, "t1", answer)
    assert await store.claim(ALICE, "body", "t3") == answer
    assert await store.claim(BOB, "body", "t4") == "taken"


async def test_a_key_given_back_is_free_and_only_its_holder_gives_it_back(store: Store) -> None:
    await store.claim(ALICE, "body", "t1")
    await store.settle(ALICE, "stranger", None)
    assert await store.claim(ALICE, "body", "t2") == "running"
    await store.settle(ALICE, "t1", None)
    assert await store.claim(ALICE, "other body", "t3") == "taken"
