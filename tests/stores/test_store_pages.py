"""Pagination of lists in every store: a page after a deleted object begins at its position."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.stores.bounded_tables import MAX_DELETED
from openai_compat.stores.cursors import name_before, names_after
from openai_compat.stores.port import Key, Order, Store
from tests.stores.samples import completion, file, item, turn

pytestmark = pytest.mark.anyio
ALICE = Key("alice", "trip")

Lists: TypeAlias = tuple[
    Callable[[Store, str], Awaitable[object]],
    Callable[[Store, str], Awaitable[bool]],
    Callable[[Store, str | None, Order], Awaitable[list[str] | None]],
]


async def add_item(store: Store, name: str) -> None:
    if await store.read(ALICE) is None:
        await store.create("alice", "trip", {}, [])
    assert await store.begin(ALICE, f"turn {name}") is not None
    assert await store.commit(turn(f"turn {name}", name))


async def items(store: Store, after: str | None, order: Order) -> list[str] | None:
    page = await store.page(ALICE, after, 100, order)
    return None if page is None else [found.id for found in page.items]


async def files(store: Store, after: str | None, order: Order) -> list[str] | None:
    found = await store.list_files("alice", after, order)
    return None if found is None else [one.id for one in found]


async def completions(store: Store, after: str | None, order: Order) -> list[str] | None:
    found = await store.list_completions("alice", after, order)
    return None if found is None else [one.id for one in found]


LISTS: dict[str, Lists] = {
    "items": (add_item, lambda store, name: store.delete_item(ALICE, name), items),
    "files": (
        lambda store, name: store.put_file("alice", file(name), b"x"),
        lambda store, name: store.delete_file(Key("alice", name)),
        files,
    ),
    "completions": (
        lambda store, name: store.put_completion("alice", completion(name)),
        lambda store, name: store.delete_completion(Key("alice", name)),
        completions,
    ),
}


@pytest.fixture(params=LISTS)
def lists(request: pytest.FixtureRequest) -> Lists:
    return LISTS[request.param]


async def test_a_list_can_be_deleted_while_it_is_read(store: Store, lists: Lists) -> None:
    add, delete, listed = lists
    for name in "abcdef":
        await add(store, name)
    orders: tuple[Order, ...] = ("asc", "desc")
    for name, asc, desc in (("c", "def", "ba"), ("a", "bdef", ""), ("d", "ef", "b"), ("f", "", "eb"), ("b", "e", "")):
        assert await delete(store, name)
        found = [await listed(store, name, order) for order in orders]
        assert found == [list(asc), list(desc)], name
    assert await listed(store, None, "asc") == ["e"]
    await add(store, "g")
    assert await listed(store, "f", "asc") == ["g"]
    assert await listed(store, "g", "desc") == ["e"]


async def test_what_is_gone_is_gone_in_every_other_way(store: Store) -> None:
    for add, delete, _ in LISTS.values():
        await add(store, "a")
        await add(store, "b")
        assert await delete(store, "a")
        assert not await delete(store, "a")
    assert await store.item(ALICE, "a") is None
    read = await store.read(ALICE)
    assert read is not None
    assert [found.id for found in read.items] == ["b"]
    assert await store.get_file(Key("alice", "a")) is None
    assert await store.file_content(Key("alice", "a")) is None
    assert await store.get_completion(Key("alice", "a")) is None


async def test_what_never_was_there_is_no_place_and_neither_is_anothers(store: Store, lists: Lists) -> None:
    add, delete, listed = lists
    await add(store, "a")
    await store.put_file("bob", file("f"), b"")
    await store.put_completion("bob", completion("f"))
    await store.delete_file(Key("bob", "f"))
    await store.delete_completion(Key("bob", "f"))
    for name in ("f", "never", "", "\0", "x" * 5000):
        assert await listed(store, name, "asc") is None
    assert await delete(store, "a")
    assert await listed(store, "a", "desc") == []


async def test_an_item_that_comes_again_is_another_one(store: Store) -> None:
    for name in "abc":
        await add_item(store, name)
    await store.delete_item(ALICE, "a")
    await store.begin(ALICE, "again")
    assert await store.commit(turn("again", "a"))
    assert await items(store, None, "asc") == ["b", "c", "a"]
    assert await items(store, "a", "desc") == ["c", "b"]
    assert await store.item(ALICE, "a") == item("a")


async def test_a_deleted_conversation_keeps_no_places(store: Store) -> None:
    await add_item(store, "a")
    await store.delete_item(ALICE, "a")
    await store.delete(ALICE)
    await store.create("alice", "trip", {}, [item("b")])
    assert await items(store, "a", "asc") is None


@pytest.mark.parametrize("store", ["memory"], indirect=True)
async def test_places_in_memory_are_bounded(store: Store, lists: Lists) -> None:
    add, delete, listed = lists
    await add(store, "first")
    for number in range(MAX_DELETED + 1):
        await add(store, f"n{number}")
        assert await delete(store, f"n{number}")
    assert await listed(store, "n0", "asc") is None
    assert await listed(store, f"n{MAX_DELETED}", "desc") == ["first"]


@given(st.data())
def test_places_are_those_of_a_list_in_which_nothing_is_ever_taken_away(data: st.DataObject) -> None:
    everything = [f"n{number}" for number in range(data.draw(st.integers(0, 8)))]
    names, gone = list(everything), dict[str, str]()
    for name in data.draw(st.permutations(everything)):
        if data.draw(st.booleans()):
            gone[name] = name_before(name, names)
            names.remove(name)
    for at, name in enumerate(everything):
        assert names_after(name, names, "asc", gone.get) == [other for other in everything[at + 1 :] if other in names]
        assert names_after(name, names, "desc", gone.get) == [
            other for other in everything[:at][::-1] if other in names
        ]
    assert names_after("never", names, "asc", gone.get) is None
