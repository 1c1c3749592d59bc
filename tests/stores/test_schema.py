"""Creation and migration of the tables of a SQL store."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from openai_compat.state.approvals import request_of
from openai_compat.stores.engine import Engine, Transaction
from openai_compat.stores.port import Key
from openai_compat.stores.schema import MIGRATIONS, UnusableStore, migrate
from openai_compat.stores.sql import SqlStore
from openai_compat.stores.sql_dialect import DIALECTS
from tests.stores.samples import ALICE, SOON, names_in, said

pytestmark = pytest.mark.anyio
NEXT = (*MIGRATIONS, ("alter table oc_item add column colour text", "update oc_item set colour = 'red'"))


async def version(engine: Engine) -> int:
    def read() -> Transaction[int]:
        rows = yield "select version from oc_schema", ()
        return int(rows[0][0])

    return await engine.run(read)


async def test_a_schema_is_made_once(engine: Engine) -> None:
    dialect = DIALECTS[engine.name]
    assert await engine.run(partial(migrate, dialect)) == 0
    assert await engine.run(partial(migrate, dialect)) == len(MIGRATIONS)
    assert await version(engine) == len(MIGRATIONS)
    await engine.aclose()


async def test_an_older_schema_is_brought_up_to_date_with_what_is_in_it(engine: Engine) -> None:
    store = SqlStore(engine)
    await said(store, "t", "a")
    assert await engine.run(partial(migrate, DIALECTS[engine.name], NEXT)) == len(MIGRATIONS)
    assert await version(engine) == len(NEXT)
    assert await names_in(store) == ["a"]
    await engine.aclose()


async def test_a_question_of_an_older_schema_can_still_be_decided(engine: Engine) -> None:
    state = '{"state":{"to":"\\u0000"},"asked":["ask"],"settings":{"model":"shop"}}'

    def ask() -> Transaction[None]:
        yield from migrate(DIALECTS[engine.name], MIGRATIONS[:2])
        yield (
            """insert into oc_approval (principal, id, created, expires, turn, agent, call_id, tool, arguments, digest,
            state, status, decision) values ('alice', 'ask', 1, $1, 't', 'shop', 'c', 'pay', '{}', 'd', $2, 'pending', '')""",
            (SOON, state),
        )

    await engine.run(ask)
    store = SqlStore(engine)
    found = await store.approval(Key("alice", "ask"))
    assert found is not None
    assert (found.request, request_of(found)) == (None, {"model": "shop"})
    assert await store.decide(Key("alice", "ask"), "approved", "{}")
    await store.aclose()


async def test_a_migration_that_fails_changes_nothing(engine: Engine) -> None:
    store = SqlStore(engine)
    await said(store, "t", "a")
    broken = (*NEXT, ("create table oc_more (n bigint)", "insert into oc_more values (1, 2, 3)"))
    with pytest.raises(Exception, match=r".+"):
        await engine.run(partial(migrate, DIALECTS[engine.name], broken))
    assert await version(engine) == len(MIGRATIONS)
    assert await engine.run(partial(migrate, DIALECTS[engine.name], NEXT)) == len(MIGRATIONS)
    assert await names_in(store) == ["a"]
    await engine.aclose()


async def test_a_newer_schema_is_refused(engine: Engine) -> None:
    await engine.run(partial(migrate, DIALECTS[engine.name], NEXT))
    store = SqlStore(engine)
    with pytest.raises(UnusableStore, match="newer version") as raised:
        await store.begin(ALICE, "t")
    assert (raised.value.status, raised.value.code, raised.value.should_retry) == (503, "store_unavailable", False)
    await engine.aclose()


async def test_a_process_that_runs_goes_on_when_a_newer_version_changes_the_schema(engine: Engine) -> None:
    store = SqlStore(engine)
    await said(store, "t", "a")
    await engine.run(partial(migrate, DIALECTS[engine.name], NEXT))
    await said(store, "u", "b")
    assert await names_in(store) == ["a", "b"]
    await engine.aclose()


async def test_many_that_start_at_once_make_it_once(engine: Engine) -> None:
    before: list[int] = []

    async def start() -> None:
        before.append(await engine.run(partial(migrate, DIALECTS[engine.name])))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(start)
    assert sorted(before) == [0] + [len(MIGRATIONS)] * 5
    await engine.aclose()
