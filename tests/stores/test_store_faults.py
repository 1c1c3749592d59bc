"""Every operation, interrupted at each of its statements: it is done entirely or not at all, and a retry works."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from openai_compat.errors import Unavailable
from openai_compat.stores.engine import Autocommit, Engine, Result, Row, Statement, StatementBatch, Transaction
from openai_compat.stores.port import AgentState, Charge, Grant, Key, Spend, Store, TurnCommit
from openai_compat.stores.sql import SqlStore
from tests.stores.samples import (
    TIMES,
    approval,
    completion,
    done,
    events,
    file,
    items,
    notice,
    response,
    said,
    time_passes,
    turn,
)

pytestmark = pytest.mark.anyio
NEVER = 1000


class CutEngine:
    """An engine that fails before the statement numbered `cut`, or loses the answer to a commit."""

    def __init__(self, engine: Engine) -> None:
        self.name = engine.name
        self.cut = NEVER
        self.silent = False
        self.refused = 0
        self._engine = engine

    async def run(self, transaction: Callable[[], Transaction[Result]]) -> Result:
        cut = self._cut(transaction)
        result = await self._engine.run(Autocommit(cut) if isinstance(transaction, Autocommit) else cut)
        if self.silent:
            raise Unavailable("No answer.", code="store_outcome_unknown")
        return result

    def _cut(self, transaction: Callable[[], Transaction[Result]]) -> Callable[[], Transaction[Result]]:
        def steps() -> Transaction[Result]:
            inner, number = transaction(), 0
            try:
                step = next(inner)
                while True:
                    rows: Sequence[Row] = ()
                    for part in self._parts(step):
                        if number >= self.cut:
                            self.refused += 1
                            raise Unavailable("Cut.", code="store_unavailable")
                        number += 1
                        rows = yield part
                    step = inner.send(rows)
            except StopIteration as stop:
                result: Result = stop.value
                return result

        return steps

    def _parts(self, step: Statement | StatementBatch) -> list[Statement | StatementBatch]:
        """The statements that are executed one by one: SQLite cannot execute several as one."""
        if isinstance(step, StatementBatch) and self.name == "sqlite":
            return [StatementBatch([statement]) for statement in step.statements]
        return [step]

    async def aclose(self) -> None:
        await self._engine.aclose()


class Operation:
    """A call, and the data that must exist before it."""

    def __init__(
        self,
        call: Callable[[Store, str], Awaitable[Any]],
        before: Callable[[SqlStore, str], Awaitable[Any]] | None = None,
        repeatable: bool = True,
    ) -> None:
        self.call = call
        self.before = before
        self.repeatable = repeatable
        """True if a repeated call, after its answer was lost, changes nothing."""


async def talked(store: SqlStore, who: str) -> None:
    await said(store, f"{who}-0", "a", "b", key=Key(who, "trip"), transcript="h")


async def busy(store: SqlStore, who: str) -> None:
    await talked(store, who)
    await store.begin(Key(who, "trip"), f"{who}-1")
    await store.begin_response(who, response(), f"{who}-1")
    await store.append([(Key(who, "resp_1"), f"{who}-1", events(0, 1))])
    await store.claim(Key(who, "key"), "body", f"{who}-1")
    await store.take_slot(who, f"{who}-1", 2)


async def abandoned(store: SqlStore, who: str) -> None:
    await busy(store, who)
    await time_passes(store.engine, 100)


async def asked(store: SqlStore, who: str) -> None:
    await store.ask(who, approval("ask"))


async def granted(store: SqlStore, who: str) -> None:
    await store.put_grant(who, Grant("g", "shop", "pay", "{}"))


async def told(store: SqlStore, who: str) -> None:
    await busy(store, who)
    assert await store.commit(everything(who))


async def end_first(store: Store, who: str) -> None:
    """Delete one of the notices that wait for `who`, whose number is unknown."""
    # A hold that ends at once: a clock in milliseconds may show the same time when they are taken again.
    for waiting in [one for one in await store.take_notices(who, "reader", 8, -1.0) if one.id == "evt_1"]:
        await store.end_notice(waiting.number)


def everything(who: str) -> TurnCommit:
    return turn(
        f"{who}-1", "c", "d", key=Key(who, "trip"), transcript="h2", response=done(response(), output=items("o")),
        events=events(2, 3), completion=completion("c"), approvals=(approval("ask_1"), approval("ask_2")),
        states=(AgentState(of="conversation", id="trip", agent="a", session="s", body="{}", turn=2),),
        notices=(notice("evt_1", who), notice("evt_2", who)),
        spends=(Spend("2026-11", "total", 5),), charges=(Charge("tokens", 5.0),),
    )  # fmt: skip


OPERATIONS: Mapping[str, Operation] = {
    "begin, new": Operation(lambda store, who: store.begin(Key(who, "trip"), f"{who}-9")),
    "begin, known": Operation(lambda store, who: store.begin(Key(who, "trip"), f"{who}-9"), talked),
    "begin, if known": Operation(lambda store, who: store.begin(Key(who, "trip"), f"{who}-9", known=True), talked),
    "begin, abandoned": Operation(lambda store, who: store.begin(Key(who, "trip"), f"{who}-9"), abandoned),
    "release": Operation(lambda store, who: store.release(Key(who, "trip"), f"{who}-1"), busy),
    "want": Operation(lambda store, who: store.want(Key(who, "trip"), f"{who}-9", 3.0, newest=True), busy),
    "want, still": Operation(lambda store, who: store.want(Key(who, "trip"), f"{who}-9", 3.0, newest=False), busy),
    "create": Operation(lambda store, who: store.create(who, "made", {"a": "b"}, items("x", "y")), None, False),
    "update": Operation(lambda store, who: store.update(Key(who, "trip"), {"a": "b"}), talked),
    "delete": Operation(lambda store, who: store.delete(Key(who, "trip")), busy),
    "delete_item": Operation(lambda store, who: store.delete_item(Key(who, "trip"), "a"), talked),
    "commit": Operation(lambda store, who: store.commit(everything(who)), busy),
    "commit, lost": Operation(lambda store, who: store.commit(everything(who)), talked, False),
    "begin_response": Operation(lambda store, who: store.begin_response(who, response(), f"{who}-9")),
    "append": Operation(lambda store, who: store.append([(Key(who, "resp_1"), f"{who}-1", events(2, 3))]), busy),
    "end_response": Operation(
        lambda store, who: store.end_response(who, done(response()), events(2, 3), [notice("evt")]), abandoned
    ),
    "take_response": Operation(
        lambda store, who: store.take_response(who, done(response()), events(2, 3), [notice("evt")]), busy
    ),
    "take_notices": Operation(lambda store, who: store.take_notices(who, f"{who}-9", 8, 10.0), told, False),
    "end_notice": Operation(lambda store, who: end_first(store, who), told),
    "cancel": Operation(lambda store, who: store.cancel(Key(who, "resp_1")), busy),
    "delete_response": Operation(lambda store, who: store.delete_response(Key(who, "resp_1")), busy),
    "put_completion": Operation(lambda store, who: store.put_completion(who, completion("c"))),
    "put_file": Operation(lambda store, who: store.put_file(who, file("f"), b"x")),
    "ask": Operation(lambda store, who: store.ask(who, approval("ask"))),
    "decide": Operation(lambda store, who: store.decide(Key(who, "ask"), "approved", "{}"), asked),
    "put_grant": Operation(lambda store, who: store.put_grant(who, Grant("g", "shop", "pay", "{}"))),
    "delete_grant": Operation(lambda store, who: store.delete_grant(Key(who, "g")), granted),
    "renew": Operation(lambda store, who: store.renew([f"{who}-1"]), abandoned),
    "claim": Operation(lambda store, who: store.claim(Key(who, "key"), "body", f"{who}-9")),
    "settle": Operation(lambda store, who: store.settle(Key(who, "key"), f"{who}-1", None), busy),
    "take_slot, new": Operation(lambda store, who: store.take_slot(who, f"{who}-9", 3)),
    "take_slot": Operation(lambda store, who: store.take_slot(who, f"{who}-9", 3), busy),
    "free_slot": Operation(lambda store, who: store.free_slot(who, f"{who}-1"), busy),
    "allow": Operation(lambda store, who: store.allow(Key(who, "rate"), 0.001, 5), None, False),
}

STEPWISE = {"take_slot, new"}
"""Operations that PostgreSQL may leave half done, since the first half is harmless: it inserts rows for free slots."""


async def contents(store: SqlStore, who: str) -> dict[str, list[str]]:
    """All stored data of a principal, without times and without the principal."""

    def read() -> Transaction[dict[str, list[str]]]:
        found: dict[str, list[str]] = {}
        for table in (*TIMES, "oc_item", "oc_event"):
            columns = COLUMNS[table]
            owner = "pool" if table == "oc_slot" else "principal"
            rows = yield f"select {columns} from {table} where {owner} = $1 order by {columns}", (who,)
            found[table] = [repr(tuple(row)).replace(who, "WHO") for row in rows]
        return found

    return await store.engine.run(read)


COLUMNS = {
    "oc_conversation": "id, version, last_item, kept, token, wanted, metadata",
    "oc_item": "conversation, n, id, body",
    "oc_turn": "token, conversation, version, transcript, lost",
    "oc_response": "id, status, previous, token, cancel, body, input, output",
    "oc_event": "response, first, last, body",
    "oc_completion": "id, metadata, body",
    "oc_file": "id, filename",
    "oc_approval": "id, status, decision",
    "oc_claim": "id, request, token, status",
    "oc_slot": "n, token",
    "oc_rate": "id",
    "oc_state": "kind, id, session, body, used",
    "oc_thread": "id, token, last",
    "oc_signal": "token, body",
    "oc_grant": "id, agent, tool, body",
    "oc_outbox": "id, target, body, attempt, token",
    "oc_spend": "period, unit, used",
}


@pytest.fixture
def cut(engine: Engine) -> CutEngine:
    return CutEngine(engine)


def plain(answer: Any, who: str) -> str:
    """An answer without times and names."""
    if hasattr(answer, "touched"):
        answer = (answer.version, answer.items, answer.metadata)
    if hasattr(answer, "wait"):
        return "an allowance"
    return re.sub(r"number=\d+", "number", repr(answer).replace(who, "WHO"))


@pytest.mark.timeout(180)
async def test_an_operation_cut_at_any_statement_has_done_nothing_and_then_works(
    cut: CutEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openai_compat.stores.sql_turns.COMMIT_PATIENCE", 0.0)
    store = SqlStore(cut)
    try:
        for name, operation in OPERATIONS.items():
            await _cut_everywhere(store, cut, name, operation)
    finally:
        await store.aclose()


async def _cut_everywhere(store: SqlStore, cut: CutEngine, name: str, operation: Operation) -> None:
    expected, result = await _undisturbed(store, name, operation)
    for number in range(NEVER):
        who = f"{name.replace(', ', '-')}-{number}"
        if operation.before is not None:
            await operation.before(store, who)
        before = await contents(store, who)
        cut.cut = number
        try:
            await operation.call(store, who)
        except Unavailable:
            pass
        else:
            assert number > 0, name
            return
        finally:
            cut.cut = NEVER
        if cut.name == "sqlite" or name not in STEPWISE:
            assert await contents(store, who) == before, f"{name} cut at {number}"
        assert plain(await operation.call(store, who), who) == result, f"{name} again after {number}"
        assert await contents(store, who) == expected, f"{name} again after {number}"


async def _undisturbed(store: SqlStore, name: str, operation: Operation) -> tuple[dict[str, list[str]], str]:
    who = f"{name.replace(', ', '-')}-whole"
    if operation.before is not None:
        await operation.before(store, who)
    result = await operation.call(store, who)
    return await contents(store, who), plain(result, who)


@pytest.mark.timeout(180)
async def test_an_operation_whose_answer_was_lost_can_be_repeated(
    cut: CutEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openai_compat.stores.sql_turns.COMMIT_PATIENCE", 0.0)
    store = SqlStore(cut)
    try:
        for name, operation in OPERATIONS.items():
            if not operation.repeatable:
                continue
            expected, _ = await _undisturbed(store, name, operation)
            who = f"{name.replace(', ', '-')}-silent"
            if operation.before is not None:
                await operation.before(store, who)
            cut.silent = True
            with pytest.raises(Unavailable) as raised:
                await operation.call(store, who)
            cut.silent = False
            assert raised.value.code == "store_outcome_unknown"
            await operation.call(store, who)
            assert await contents(store, who) == expected, name
    finally:
        await store.aclose()


async def test_a_commit_whose_answer_is_lost_is_repeated_by_the_store_and_found_done(cut: CutEngine) -> None:
    store = SqlStore(cut)
    try:
        await busy(store, "alice")
        committed: list[bool] = []
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                cut.silent = True

                async def commit() -> None:
                    committed.append(await store.commit(everything("alice")))

                group.start_soon(commit)
                while not await _ended(cut, "alice-1"):
                    await anyio.lowlevel.checkpoint()
                cut.silent = False
        assert committed == [True]
        found = await store.read(Key("alice", "trip"))
        assert found is not None
        assert [item.id for item in found.items] == ["a", "b", "c", "d"]
    finally:
        await store.aclose()


async def _ended(cut: CutEngine, token: str) -> bool:
    def read() -> Transaction[bool]:
        rows = yield "select 1 from oc_turn where token = $1", (token,)
        return bool(rows)

    return await cut._engine.run(read)


async def test_a_commit_is_tried_again_while_the_database_is_away_for_a_moment(cut: CutEngine) -> None:
    store = SqlStore(cut)
    try:
        await busy(store, "alice")
        cut.cut = 0
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:

                async def come_back() -> None:
                    while cut.refused < 2:
                        await anyio.lowlevel.checkpoint()
                    cut.cut = NEVER

                group.start_soon(come_back)
                assert await store.commit(everything("alice"))
    finally:
        await store.aclose()


async def test_a_caller_that_leaves_at_any_moment_leaves_all_or_nothing(engine: Engine) -> None:
    store = SqlStore(engine)
    try:
        for steps in range(12):
            who = f"leaving-{steps}"
            await busy(store, who)
            with anyio.fail_after(10):
                async with anyio.create_task_group() as group:
                    group.start_soon(store.commit, everything(who))
                    for _ in range(steps):
                        await anyio.lowlevel.checkpoint()
                    group.cancel_scope.cancel()
                committed = await store.commit(everything(who))
            assert committed
            kept = await contents(store, who)
            assert kept["oc_conversation"] == [repr(("trip", 2, 4, 1, None, None, "{}"))]
            assert len(kept["oc_item"]) == 4
    finally:
        await store.aclose()
