"""Stored completions, files and approvals in every store."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest

from openai_compat.stores.port import Key, Store
from openai_compat.stores.sql import SqlStore
from tests.stores.samples import approval, completion, file, time_passes

pytestmark = pytest.mark.anyio
LONG_AGO = 1.0


async def test_completions_are_kept_changed_listed_and_deleted_by_their_owner_only(store: Store) -> None:
    await store.put_completion("alice", completion("c1"))
    await store.put_completion("alice", completion("c2"))
    await store.put_completion("bob", completion("c3"))
    await store.put_completion("alice", completion("c1", label="\ud800"))
    assert [found.id for found in await store.list_completions("alice")] == ["c1", "c2"]
    assert await store.get_completion(Key("alice", "c1")) == completion("c1", label="\ud800")
    assert await store.get_completion(Key("bob", "c1")) is None
    assert not await store.delete_completion(Key("bob", "c1"))
    assert await store.delete_completion(Key("alice", "c1"))
    assert not await store.delete_completion(Key("alice", "c1"))


async def test_files_are_kept_listed_and_deleted_by_their_owner_only(store: Store) -> None:
    first = file("f1", filename="a\0\ud800.txt")
    await store.put_file("alice", first, b"\x00\xff\n")
    await store.put_file("alice", file("f2"), b"")
    assert await store.get_file(Key("alice", "f1")) == first
    assert await store.file_content(Key("alice", "f1")) == b"\x00\xff\n"
    assert await store.file_content(Key("alice", "f2")) == b""
    assert await store.list_files("alice") == [first, file("f2")]
    assert await store.list_files("bob") == []
    assert await store.get_file(Key("bob", "f1")) is None
    assert await store.file_content(Key("bob", "f1")) is None
    assert not await store.delete_file(Key("bob", "f1"))
    assert await store.delete_file(Key("alice", "f1"))
    assert not await store.delete_file(Key("alice", "f1"))


async def test_a_file_whose_time_is_over_is_unknown(store: Store) -> None:
    await store.put_file("alice", file("f1", expires=LONG_AGO), b"x")
    assert await store.get_file(Key("alice", "f1")) is None
    assert await store.file_content(Key("alice", "f1")) is None
    assert await store.list_files("alice") == []
    assert not await store.delete_file(Key("alice", "f1"))


async def test_a_large_file_comes_back_whole(store: Store) -> None:
    content = bytes(range(256)) * 20_000
    await store.put_file("alice", file("f1"), content)
    assert await store.file_content(Key("alice", "f1")) == content


async def test_a_question_is_decided_once_by_its_owner(store: Store) -> None:
    asked = approval("ask_1")
    await store.ask("alice", asked)
    assert await store.approval(Key("alice", "ask_1")) == asked
    assert await store.approval(Key("bob", "ask_1")) is None
    assert not await store.decide(Key("bob", "ask_1"), "approved", "{}")
    assert await store.decide(Key("alice", "ask_1"), "denied", '{"why": "no"}')
    assert not await store.decide(Key("alice", "ask_1"), "approved", "{}")
    found = await store.approval(Key("alice", "ask_1"))
    assert found == replace(asked, status="denied", decision='{"why": "no"}')


async def test_a_question_need_not_say_how_the_agent_was_asked(store: Store) -> None:
    await store.ask("alice", approval("ask_1", request=None))
    found = await store.approval(Key("alice", "ask_1"))
    assert found == approval("ask_1", request=None)


async def test_of_many_decisions_at_once_one_counts(store: Store) -> None:
    await store.ask("alice", approval("ask_1"))
    winners: list[str] = []

    async def decide(name: str) -> None:
        if await store.decide(Key("alice", "ask_1"), "approved", f'"{name}"'):
            winners.append(f'"{name}"')

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(decide, f"p{number}")
    found = await store.approval(Key("alice", "ask_1"))
    assert found is not None
    assert [found.decision] == winners


async def test_pending_questions_are_listed_of_all_conversations_or_of_one(store: Store) -> None:
    for name, conversation in (("a", "trip"), ("b", None), ("c", "other"), ("d", "trip")):
        await store.ask("alice", approval(name, conversation=conversation))
    await store.ask("alice", approval("late", expires=LONG_AGO))
    await store.decide(Key("alice", "d"), "approved", "{}")
    assert [found.id for found in await store.approvals("alice")] == ["a", "b", "c"]
    assert [found.id for found in await store.approvals("alice", "trip")] == ["a"]
    assert await store.approvals("bob") == []


async def test_a_question_whose_time_is_over_cannot_be_decided(store: Store) -> None:
    await store.ask("alice", approval("ask_1", expires=LONG_AGO))
    assert not await store.decide(Key("alice", "ask_1"), "approved", "{}")
    found = await store.approval(Key("alice", "ask_1"))
    assert found is not None
    assert found.status == "expired"


async def test_a_question_expires_by_the_databases_clock(sql_store: SqlStore) -> None:
    await sql_store.ask("alice", approval("ask_1"))
    await time_passes(sql_store.engine, 4e9)
    assert not await sql_store.decide(Key("alice", "ask_1"), "approved", "{}")
