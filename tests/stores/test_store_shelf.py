"""Lists of a principal's conversations in every store."""

from __future__ import annotations

from typing import Any

import pytest

from openai_compat.stores.port import ConversationPage, Key, Store
from openai_compat.stores.sql import SqlStore
from tests.stores.samples import ALICE, said, time_passes

pytestmark = pytest.mark.anyio


def ids(shelf: ConversationPage) -> list[str]:
    return [found.id for found in shelf.conversations]


async def made(store: Store, *names: str, **labels: str) -> None:
    for name in names:
        await store.create("alice", name, labels, ())
        if isinstance(store, SqlStore):
            await time_passes(store.engine, 10)


async def test_those_used_last_come_first(store: Store) -> None:
    await made(store, "a", "b", "c")
    await said(store, "t", "q", key=Key("alice", "a"))
    shelf = await store.conversations("alice", {}, 10)
    assert (ids(shelf), shelf.total) == (["a", "c", "b"], 3)
    assert all(found.items == () for found in shelf.conversations)
    assert [found.version for found in shelf.conversations] == [1, 0, 0]


async def test_a_page_begins_after_so_many_or_after_one(store: Store) -> None:
    await made(store, "a", "b", "c", "d")
    assert ids(await store.conversations("alice", {}, 2, 1)) == ["c", "b"]
    first = (await store.conversations("alice", {}, 2)).conversations[-1]
    await said(store, "t", "q", key=Key("alice", "a"))  # this one moves to the front: the next page repeats nothing
    rest = await store.conversations("alice", {}, 10, before=(first.touched, first.id))
    assert (ids(rest), rest.total) == (["b"], 4)


@pytest.mark.parametrize("value", ["task_1", 'a"b', "\\", "Ключ", "\ud800\0", "%_", "x, y"])
async def test_labels_are_found_to_the_letter(store: Store, value: str) -> None:
    await made(store, "one", taskId=value, title="A")
    await made(store, "two", title="B", taskId=value)
    await made(store, "other", taskId=value + "1", title="A")
    await made(store, "upper", taskId=value.upper() + "X", title="A")
    await made(store, "none")
    await store.create("alice", "misleading", {"title": f'"taskId": "{value}"', 'x"taskId': value}, ())
    assert sorted(ids(await store.conversations("alice", {"taskId": value}, 10))) == ["one", "two"]
    both = await store.conversations("alice", {"taskId": value, "title": "B"}, 10)
    assert (ids(both), both.total) == (["two"], 1)


async def test_only_ones_own_that_are_kept_are_listed(store: Store) -> None:
    await made(store, "hers")
    await store.create("bob", "his", {}, ())
    await store.begin(ALICE, "t")  # only locked
    assert ids(await store.conversations("alice", {}, 10)) == ["hers"]
    assert await store.conversations("carol", {}, 10) == ConversationPage((), 0)


async def test_many_labels_and_pages_at_once(store: Store) -> None:
    await made(store, "a", "b", "c", one="1", two="2")
    first = (await store.conversations("alice", {"two": "2", "one": "1"}, 1)).conversations[0]
    found: Any = await store.conversations("alice", {"two": "2", "one": "1"}, 1, 1, before=(first.touched, first.id))
    assert (ids(found), found.total) == (["a"], 3)
