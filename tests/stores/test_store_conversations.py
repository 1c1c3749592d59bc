"""Conversations in every store."""

from __future__ import annotations

import anyio
import pytest

from openai_compat.stores.port import Conversation, Item, Key, Order, Store
from openai_compat.stores.sql import SqlStore
from tests.stores.samples import ALICE, BOB, item, items, names_in, said, time_passes, turn

pytestmark = pytest.mark.anyio


async def test_a_new_conversation_begins_empty(store: Store) -> None:
    found = await store.begin(ALICE, "t1")
    assert found is not None
    assert (found.id, found.version, found.items, found.metadata) == ("trip", 0, (), {})


async def test_the_items_of_committed_turns_come_back_in_order(store: Store) -> None:
    for number in ("1", "2", "3"):
        await said(store, f"t{number}", f"q{number}", f"a{number}")
    found = await store.begin(ALICE, "t4")
    assert found is not None
    assert (found.version, found.items) == (3, items("q1", "a1", "q2", "a2", "q3", "a3"))


async def test_bodies_come_back_to_the_byte(store: Store) -> None:
    bodies = ('{"text": "\\u0000 \\ud800 \\" \\\\ "}', '{ "id" : "b" ,\n\t"x":1e400}', "{}")
    await store.begin(ALICE, "t")
    sent = tuple([Item(f"i{number}", body) for number, body in enumerate(bodies)])
    outcome = turn("t")
    assert outcome.conversation is not None
    await store.create("alice", "made", {}, sent)
    found = await store.read(Key("alice", "made"))
    assert found is not None
    assert found.items == sent


@pytest.mark.parametrize(
    "name",
    ["\0", "\ud800", 'a"b\\c', "\\u0000", "ключ", "x" * 500, "\U0001f600" * 256, "'; drop table oc_item; --", "%"],
)
async def test_any_text_is_an_id(store: Store, name: str) -> None:
    key = Key(name, name)
    assert await store.read(key) is None
    await said(store, "t", name, key=key, transcript="h")
    assert await store.find(name, "h") == (name, True)
    assert await store.item(key, name) == item(name)
    page = await store.page(key, None, 10, "asc")
    assert page is not None
    assert [found.id for found in page.items] == [name]
    assert await store.delete(key)


async def test_a_second_turn_finds_the_conversation_locked_until_it_is_released(store: Store) -> None:
    await store.begin(ALICE, "t1")
    assert await store.begin(ALICE, "t2") is None
    await store.release(ALICE, "t1")
    assert await store.begin(ALICE, "t2") is not None


async def test_of_many_turns_at_once_one_gets_the_lock(store: Store) -> None:
    begun: list[Conversation | None] = []

    async def begin(token: str) -> None:
        begun.append(await store.begin(ALICE, token))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(begin, f"t{number}")
    assert len([found for found in begun if found is not None]) == 1


async def test_only_the_holder_of_the_lock_commits_or_releases(store: Store) -> None:
    await store.begin(ALICE, "t1")
    assert not await store.commit(turn("stranger", "x"))
    await store.release(ALICE, "stranger")
    assert await store.begin(ALICE, "t2") is None
    assert await store.commit(turn("t1", "a"))
    assert await names_in(store) == ["a"]


async def test_a_turn_that_was_released_leaves_nothing(store: Store) -> None:
    await store.begin(ALICE, "t1")
    await store.release(ALICE, "t1")
    assert await store.read(ALICE) is None
    assert await store.update(ALICE, {}) is None
    assert not await store.delete(ALICE)


async def test_a_conversation_that_is_only_locked_is_unknown_yet(store: Store) -> None:
    await store.begin(ALICE, "t1")
    assert await store.read(ALICE) is None
    assert not await store.delete(ALICE)
    assert not await store.commit(turn("t1", "a"))


async def test_releasing_a_known_conversation_keeps_it(store: Store) -> None:
    await said(store, "t1", "a")
    await store.begin(ALICE, "t2")
    await store.release(ALICE, "t2")
    assert await names_in(store) == ["a"]


async def test_a_created_conversation_is_kept_while_it_is_empty(store: Store) -> None:
    made = await store.create("alice", "trip", {"topic": "x"}, [])
    assert (made.version, made.metadata, made.items) == (0, {"topic": "x"}, ())
    assert await store.read(ALICE) == made
    await store.begin(ALICE, "t1")
    await store.release(ALICE, "t1")
    assert await names_in(store) == []


async def test_the_items_a_conversation_is_created_with_are_its_first_turn(store: Store) -> None:
    made = await store.create("alice", "trip", {}, items("a", "b"))
    assert (made.version, made.items) == (1, items("a", "b"))
    await said(store, "t", "c")
    assert await names_in(store) == ["a", "b", "c"]


async def test_metadata_is_replaced_and_the_items_are_left_out_where_nobody_wants_them(store: Store) -> None:
    await store.create("alice", "trip", {"a": "1"}, items("x"))
    changed = await store.update(ALICE, {"b": "\ud800\0"})
    assert changed is not None
    assert (changed.metadata, changed.items) == ({"b": "\ud800\0"}, ())
    found = await store.read(ALICE, items=False)
    assert found is not None
    assert (found.metadata, found.items, found.version) == ({"b": "\ud800\0"}, (), 1)


async def test_the_same_id_of_another_principal_is_another_conversation(store: Store) -> None:
    await said(store, "t1", "hers", transcript="hash")
    assert await store.read(BOB) is None
    assert await store.update(BOB, {}) is None
    assert await store.item(BOB, "hers") is None
    assert not await store.delete_item(BOB, "hers")
    assert not await store.delete(BOB)
    assert await store.find("bob", "hash") is None
    await said(store, "t2", "his", key=BOB)
    assert (await names_in(store), await names_in(store, BOB)) == (["hers"], ["his"])


async def test_a_conversation_deleted_while_a_turn_runs_is_not_brought_back(store: Store) -> None:
    await said(store, "t1", "a")
    await store.begin(ALICE, "t2")
    assert await store.delete(ALICE)
    assert not await store.commit(turn("t2", "b"))
    assert await store.read(ALICE) is None


async def test_one_begun_anew_after_it_was_deleted_is_not_the_old_turns(store: Store) -> None:
    await said(store, "t1", "a")
    await store.begin(ALICE, "t2")
    await store.delete(ALICE)
    await store.begin(ALICE, "t3")
    assert not await store.commit(turn("t2", "old"))
    assert await store.commit(turn("t3", "new"))
    assert await names_in(store) == ["new"]


async def test_a_transcript_finds_its_conversation_and_knows_if_it_went_on(store: Store) -> None:
    await said(store, "t1", "a", transcript="one")
    assert await store.find("alice", "one") == ("trip", True)
    await said(store, "t2", "b", transcript="two")
    assert await store.find("alice", "one") == ("trip", False)
    assert await store.find("alice", "two") == ("trip", True)
    await said(store, "t3", "c")
    assert await store.find("alice", "two") == ("trip", False)
    await store.delete(ALICE)
    assert await store.find("alice", "two") is None


async def test_of_conversations_with_the_same_transcript_one_that_still_stands_there_is_found(store: Store) -> None:
    other = Key("alice", "other")
    await said(store, "t1", "a", transcript="one")
    await said(store, "t2", "b", key=other, transcript="one")
    await said(store, "t3", "c", key=other, transcript="two")
    assert await store.find("alice", "one") == ("trip", True)
    await store.delete(other)
    assert await store.find("alice", "one") == ("trip", True)


@pytest.mark.parametrize(("order", "pages"), [("asc", ["ab", "cd", "e"]), ("desc", ["ed", "cb", "a"])])
async def test_pages_follow_each_other_to_the_end(store: Store, order: Order, pages: list[str]) -> None:
    await store.create("alice", "trip", {}, items("a", "b", "c"))
    await said(store, "t", "d", "e")
    after, found = None, list[str]()
    more = True
    while more:
        page = await store.page(ALICE, after, 2, order)
        assert page is not None
        found.append("".join([item.id for item in page.items]))
        after, more = page.items[-1].id, page.more
    assert found == pages


async def test_a_page_after_an_item_that_is_not_there_is_none(store: Store) -> None:
    await store.create("alice", "trip", {}, items("a"))
    assert await store.page(ALICE, "b", 1, "asc") is None
    assert await store.page(BOB, "a", 1, "asc") is None


async def test_an_item_is_taken_out_once_and_the_others_keep_their_order(store: Store) -> None:
    await store.create("alice", "trip", {}, items("a", "b", "c"))
    assert await store.delete_item(ALICE, "b")
    assert not await store.delete_item(ALICE, "b")
    assert await store.item(ALICE, "b") is None
    await said(store, "t", "d")
    assert await names_in(store) == ["a", "c", "d"]
    page = await store.page(ALICE, "a", 1, "asc")
    assert page is not None
    assert page.items == items("c")


async def test_an_item_whose_id_is_there_already_takes_its_place(store: Store) -> None:
    await store.create("alice", "trip", {}, [item("a"), item("b")])
    await store.begin(ALICE, "t")
    outcome = turn("t", "c")
    assert outcome.conversation is not None
    await store.commit(turn("t", "c", "a", "c"))
    assert await names_in(store) == ["a", "b", "c"]


async def test_a_turn_of_many_items_is_one_turn(store: Store) -> None:
    names = [f"i{number}" for number in range(450)]
    await said(store, "t", *names)
    assert await names_in(store) == names


# several processes


async def test_the_lock_of_a_dead_process_is_free_after_its_lease(sql_store: SqlStore) -> None:
    await said(sql_store, "t1", "a")
    await sql_store.begin(ALICE, "dead", lease=10)
    await time_passes(sql_store.engine, 9)
    assert await sql_store.begin(ALICE, "t2") is None
    await time_passes(sql_store.engine, 2)
    found = await sql_store.begin(ALICE, "t2")
    assert found is not None
    assert found.items == items("a")


async def test_a_process_that_was_frozen_cannot_commit_over_the_turn_that_took_its_lock(sql_store: SqlStore) -> None:
    await sql_store.begin(ALICE, "frozen", lease=10)
    await time_passes(sql_store.engine, 11)
    await sql_store.begin(ALICE, "next")
    assert (await sql_store.renew(["frozen", "next"])).held == {"next"}
    assert not await sql_store.commit(turn("frozen", "old"))
    assert await sql_store.commit(turn("next", "new"))
    assert not await sql_store.commit(turn("frozen", "old"))
    assert await names_in(sql_store) == ["new"]


async def test_a_lease_that_is_over_is_still_good_while_nobody_has_taken_the_lock(sql_store: SqlStore) -> None:
    await sql_store.begin(ALICE, "slow", lease=10)
    await time_passes(sql_store.engine, 11)
    assert (await sql_store.renew(["slow"], lease=10)).held == {"slow"}
    assert await sql_store.begin(ALICE, "other") is None
    assert await sql_store.commit(turn("slow", "a"))


async def test_of_many_who_want_the_lock_of_a_dead_process_one_gets_it(sql_store: SqlStore) -> None:
    await sql_store.begin(ALICE, "dead", lease=10)
    await time_passes(sql_store.engine, 11)
    begun: list[Conversation | None] = []

    async def begin(token: str) -> None:
        begun.append(await sql_store.begin(ALICE, token))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(begin, f"t{number}")
    assert len([found for found in begun if found is not None]) == 1


async def test_a_begin_whose_answer_was_lost_can_be_repeated(sql_store: SqlStore) -> None:
    await said(sql_store, "t1", "a")
    first = await sql_store.begin(ALICE, "t2")
    again = await sql_store.begin(ALICE, "t2")
    assert first is not None
    assert again is not None
    assert again.items == first.items
