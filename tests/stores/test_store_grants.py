"""Always-allow grants in every store."""

from __future__ import annotations

import pytest

from openai_compat.stores.port import MOST_GRANTS, Grant, Key, Store
from openai_compat.stores.sql import SqlStore
from tests.requirements import requirement
from tests.stores.samples import time_passes

pytestmark = pytest.mark.anyio


async def allowed(store: Store, principal: str = "alice", tool: tuple[str, str] | None = None) -> list[str]:
    return [grant.id for grant in await store.grants(principal, tool)]


@requirement("approval.grants")
async def test_a_grant_is_its_principals_and_its_tools_until_it_is_taken_back(store: Store) -> None:
    await store.put_grant("alice", Grant("a", "shop", "p\0ay", '{"x": "\\u0000"}'))
    await store.put_grant("alice", Grant("b", "shop", "look", "{}"))
    await store.put_grant("bob", Grant("a", "shop", "p\0ay", "[]"))
    assert await allowed(store) == ["a", "b"]
    [pays] = await store.grants("alice", ("shop", "p\0ay"))
    assert (pays.id, pays.agent, pays.tool, pays.body) == ("a", "shop", "p\0ay", '{"x": "\\u0000"}')
    assert pays.created > 0
    assert not await store.delete_grant(Key("bob", "b"))
    assert await store.delete_grant(Key("alice", "a"))
    assert not await store.delete_grant(Key("alice", "a"))
    assert await allowed(store) == ["b"]
    assert await allowed(store, "bob") == ["a"]


@requirement("approval.grants")
async def test_of_one_tool_the_newest_are_kept_and_one_that_is_given_again_is_the_newest(store: Store) -> None:
    for number in range(MOST_GRANTS):
        await store.put_grant("alice", Grant(str(number), "shop", "pay", "{}"))
    await store.put_grant("alice", Grant("other", "bank", "pay", "{}"))
    await store.put_grant("alice", Grant("0", "shop", "pay", "{}"))
    await store.put_grant("alice", Grant("new", "shop", "pay", "{}"))
    assert await allowed(store, tool=("shop", "pay")) == [
        *[str(number) for number in range(2, MOST_GRANTS)],
        "0",
        "new",
    ]
    assert await allowed(store, tool=("bank", "pay")) == ["other"]


@requirement("approval.grants")
async def test_no_sweep_takes_a_grant(sql_store: SqlStore) -> None:
    await sql_store.put_grant("alice", Grant("a", "shop", "pay", "{}"))
    await time_passes(sql_store.engine, 1e9)
    await sql_store.sweep()
    assert await allowed(sql_store) == ["a"]
