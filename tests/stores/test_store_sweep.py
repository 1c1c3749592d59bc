"""Which data a sweep of the SQL store deletes, and which it must not."""

from __future__ import annotations

import pytest

from openai_compat.stores.engine import Transaction
from openai_compat.stores.port import Chain, Key, TurnCommit
from openai_compat.stores.sql import SqlStore
from openai_compat.stores.sql_sweep import BATCH
from tests.stores.samples import (
    ALICE,
    ANSWER,
    TIMES,
    approval,
    completion,
    done,
    events,
    file,
    items,
    names_in,
    notice,
    response,
    said,
    time_passes,
    turn,
)

pytestmark = pytest.mark.anyio
DAY = 24 * 3600.0
MONTH = 30 * DAY


async def rows(store: SqlStore) -> dict[str, int]:
    """The number of rows in each table that is not empty."""

    def count() -> Transaction[dict[str, int]]:
        counted: dict[str, int] = {}
        for table in (*TIMES, "oc_item", "oc_event"):
            found = yield f"select count(*) from {table}", ()
            if found[0][0]:
                counted[table] = found[0][0]
        return counted

    return await store.engine.run(count)


async def link(store: SqlStore, name: str, previous: str | None) -> None:
    chained = done(response(name), previous=previous, output=items(f"said {name}"))
    assert await store.commit(TurnCommit(principal="alice", token=name, response=chained))


async def test_everything_that_was_not_used_for_the_retention_goes_without_a_trace(sql_store: SqlStore) -> None:
    await said(sql_store, "t1", "a", "b", transcript="h")
    await sql_store.begin_response("alice", response(), "t2")
    await sql_store.append([(Key("alice", "resp_1"), "t2", events(0, 1))])
    await link(sql_store, "resp_2", "resp_1")
    await sql_store.put_completion("alice", completion("c"))
    await sql_store.put_file("alice", file("f"), b"x")
    await sql_store.ask("alice", approval("ask"))
    await sql_store.claim(ALICE, "body", "t3")
    await sql_store.settle(ALICE, "t3", ANSWER)
    await sql_store.allow(ALICE, 1, 1)
    await sql_store.commit(TurnCommit(principal="alice", token="t4", notices=(notice("evt", "nobody"),)))
    await time_passes(sql_store.engine, 5e9)
    assert await sql_store.sweep() > 0
    assert await rows(sql_store) == {}
    assert await sql_store.sweep() == 0


async def test_what_was_used_within_the_retention_stays(sql_store: SqlStore) -> None:
    await said(sql_store, "t1", "a", transcript="h")
    await link(sql_store, "resp_1", None)
    await sql_store.put_completion("alice", completion("c"))
    await sql_store.put_file("alice", file("f"), b"x")
    await sql_store.ask("alice", approval("ask"))
    await time_passes(sql_store.engine, MONTH - 100)
    assert await sql_store.sweep() <= 2  # the end rows of turns, which identify repeated commits for a day
    assert await names_in(sql_store) == ["a"]
    assert await sql_store.find("alice", "h") == ("trip", True)
    assert await sql_store.chain(Key("alice", "resp_1")) == Chain(items("said resp_1"))
    assert await sql_store.get_completion(Key("alice", "c")) is not None
    assert await sql_store.get_file(Key("alice", "f")) is not None
    assert await sql_store.approval(Key("alice", "ask")) is not None


async def test_a_turn_renews_its_conversation(sql_store: SqlStore) -> None:
    await said(sql_store, "t1", "a")
    await time_passes(sql_store.engine, MONTH - 100)
    await said(sql_store, "t2", "b")
    await time_passes(sql_store.engine, 200)
    await sql_store.sweep()
    assert await names_in(sql_store) == ["a", "b"]


async def test_a_chain_is_kept_whole_as_long_as_its_newest_response_is_used(sql_store: SqlStore) -> None:
    await link(sql_store, "a", None)
    await link(sql_store, "b", "a")
    await time_passes(sql_store.engine, MONTH - 100)
    await link(sql_store, "c", "b")
    await link(sql_store, "fork", "a")
    await time_passes(sql_store.engine, 200)
    await sql_store.sweep()
    assert await sql_store.chain(Key("alice", "c")) == Chain(items("said a", "said b", "said c"))
    await time_passes(sql_store.engine, MONTH - 100)
    assert await sql_store.chain(Key("alice", "c")) is not None  # a read counts as a use
    await time_passes(sql_store.engine, 200)
    await sql_store.sweep()
    assert await sql_store.response(Key("alice", "fork")) is None
    assert await sql_store.chain(Key("alice", "c")) == Chain(items("said a", "said b", "said c"))
    await time_passes(sql_store.engine, MONTH)
    await sql_store.sweep()
    assert "oc_response" not in await rows(sql_store)


async def test_nothing_that_somebody_holds_goes(sql_store: SqlStore) -> None:
    await said(sql_store, "t1", "a")
    await sql_store.begin(ALICE, "t2")
    await sql_store.begin_response("alice", response(), "t2")
    await sql_store.claim(ALICE, "body", "t2")
    await time_passes(sql_store.engine, 2 * MONTH)
    await sql_store.renew(["t2"])
    await sql_store.sweep()
    assert await sql_store.claim(ALICE, "body", "t3") == "running"
    assert await sql_store.commit(turn("t2", "b", response=done(response())))
    assert await names_in(sql_store) == ["a", "b"]


async def test_conversations_whose_first_turn_died_go_soon(sql_store: SqlStore) -> None:
    await sql_store.begin(ALICE, "dead", lease=10)
    await sql_store.sweep()
    assert "oc_conversation" in await rows(sql_store)
    await time_passes(sql_store.engine, 11)
    assert await sql_store.sweep() == 1
    assert await rows(sql_store) == {}


async def test_files_go_when_they_expire(sql_store: SqlStore) -> None:
    await sql_store.put_file("alice", file("f", expires=1.0), b"x")
    assert await sql_store.sweep() == 1
    assert await rows(sql_store) == {}


async def test_idempotency_keys_are_kept_for_a_day(sql_store: SqlStore) -> None:
    await sql_store.claim(ALICE, "body", "t1")
    await sql_store.settle(ALICE, "t1", ANSWER)
    await time_passes(sql_store.engine, DAY - 100)
    await sql_store.sweep()
    assert await sql_store.claim(ALICE, "body", "t2") == ANSWER
    await time_passes(sql_store.engine, 200)
    await sql_store.sweep()
    assert await sql_store.claim(ALICE, "body", "t2") == "taken"


async def test_more_than_one_transaction_takes_goes_too(sql_store: SqlStore) -> None:
    for number in range(BATCH + 5):
        await sql_store.put_completion("alice", completion(f"c{number}"))
    await time_passes(sql_store.engine, MONTH + 1)
    assert await sql_store.sweep() == BATCH + 5
    assert await rows(sql_store) == {}
