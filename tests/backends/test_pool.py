"""Pooled warm agents, each lent to one turn at a time."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import anyio
import httpx2
import pytest

from openai_compat import AgentError, Capabilities, Finished, RunContext, Server
from openai_compat.backends.pool import pooled
from openai_compat.backends.subprocess import SubprocessBackend
from openai_compat_adapters.transport import AsyncTransport
from tests.backends.support import new_context, read, request_for, run, user

pytestmark = pytest.mark.anyio


class Runtime:
    """An agent that counts its turns, and fails on concurrent ones."""

    made: list[Runtime]

    def __init__(self) -> None:
        self.number = len(self.made)
        self.made.append(self)
        self.turns = 0
        self.running = False
        self.closed = 0
        self.cancelled: list[RunContext] = []
        self.gate: anyio.Event | None = None

    async def run(self, prompt: str, context: RunContext) -> AsyncIterator[str]:
        assert not self.running
        self.running = True
        try:
            yield f"{self.number}.{self.turns}"
            if self.gate is not None:
                await self.gate.wait()
            if prompt == "fail":
                raise ValueError("no")
        finally:
            self.turns += 1
            self.running = False

    async def aclose(self) -> None:
        self.closed += 1


@pytest.fixture
def made() -> list[Runtime]:
    """The agents made in this test, in order."""
    Runtime.made = []
    return Runtime.made


async def test_one_agent_serves_turn_after_turn(made: list[Runtime]) -> None:
    pool = pooled(Runtime)
    assert [await run(pool) for _ in range(3)] == [["0.0"], ["0.1"], ["0.2"]]
    assert [(runtime.turns, runtime.closed) for runtime in made] == [(3, 0)]


async def at_once(pool: Any, turns: int) -> list[str]:
    """Run `turns` turns concurrently; returns their texts."""
    said: list[str] = []
    together = anyio.Event()

    async def turn() -> None:
        async for item in read(pool, request_for(), new_context()):
            said.append(item)
            if len(said) == turns:
                together.set()
            await together.wait()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for _ in range(turns):
                group.start_soon(turn)
    return said


async def test_turns_at_the_same_time_have_an_agent_each_and_four_of_them_are_kept(made: list[Runtime]) -> None:
    pool = pooled(Runtime)
    assert sorted(await at_once(pool, 6)) == ["0.0", "1.0", "2.0", "3.0", "4.0", "5.0"]
    assert sorted([runtime.closed for runtime in made]) == [0, 0, 0, 0, 1, 1]
    kept = {str(runtime.number) for runtime in made if not runtime.closed}
    assert {said[0] for said in await at_once(pool, 4)} == kept
    assert len(made) == 6


async def test_how_many_are_kept_can_be_set(made: list[Runtime]) -> None:
    assert sorted(await at_once(pooled(Runtime, idle=1), 3)) == ["0.0", "1.0", "2.0"]
    assert sorted([runtime.closed for runtime in made]) == [0, 1, 1]
    with pytest.raises(ValueError, match="idle"):
        pooled(Runtime, idle=-1)


async def test_none_are_kept_with_0(made: list[Runtime]) -> None:
    pool = pooled(Runtime, idle=0)
    assert [await run(pool) for _ in range(2)] == [["0.0"], ["1.0"]]
    assert [runtime.closed for runtime in made] == [1, 1]


async def test_an_agent_whose_turn_failed_is_never_lent_again(made: list[Runtime]) -> None:
    pool = pooled(Runtime)
    with pytest.raises(ValueError, match="no"):
        await run(pool, request_for("fail"))
    assert await run(pool) == ["1.0"]
    assert [runtime.closed for runtime in made] == [1, 0]


async def test_nor_is_one_whose_turn_was_cancelled(made: list[Runtime]) -> None:
    pool = pooled(Runtime)
    made[0].gate = anyio.Event()
    with anyio.fail_after(20), anyio.CancelScope() as scope:
        async for _ in read(pool, request_for(), new_context()):
            scope.cancel()
    assert await run(pool) == ["1.0"]
    assert [runtime.closed for runtime in made] == [1, 0]


async def test_nor_one_whose_turn_was_left_before_its_end(made: list[Runtime]) -> None:
    pool = pooled(Runtime)
    async with aclosing(read(pool, request_for(), new_context())) as items:
        await anext(items)
    assert await run(pool) == ["1.0"]
    assert [runtime.closed for runtime in made] == [1, 0]


async def test_nor_one_that_came_to_its_end_after_it_was_told_to_stop(made: list[Runtime]) -> None:
    pool, context = pooled(Runtime), new_context()
    async for _ in read(pool, request_for(), context):
        context.cancel()
    assert await run(pool) == ["1.0"]


async def test_a_client_that_leaves_costs_the_agent_its_place(made: list[Runtime]) -> None:
    """Run in the server, which cancels the turn from outside."""
    server = Server(pooled(Runtime))
    made[0].gate = anyio.Event()
    body = {"model": "agent", "messages": [user("Hi")], "stream": True}
    with anyio.fail_after(20):
        async with httpx2.AsyncClient(transport=AsyncTransport(server), base_url="http://localhost") as client:
            ask = client.stream("POST", "/v1/chat/completions", json=body)
            async with ask as answer, aclosing(answer.aiter_bytes()) as pieces:
                await anext(pieces)
            again = await client.post("/v1/chat/completions", json={**body, "stream": False})
    assert again.json()["choices"][0]["message"]["content"] == "1.0"
    assert [runtime.closed for runtime in made] == [1, 0]


async def test_the_agents_own_way_to_stop_is_used() -> None:
    asked: list[RunContext] = []

    class Stoppable:
        capabilities = Capabilities()

        async def run(self, request: Any, context: RunContext) -> AsyncIterator[str]:
            yield "working"

        def request_cancel(self, context: RunContext) -> None:
            asked.append(context)

    pool, context = pooled(Stoppable), new_context()
    async for _ in read(pool, request_for(), context):
        pool.request_cancel(context)
    pool.request_cancel(new_context())  # not the context of any turn
    assert asked == [context]


async def test_agents_may_be_made_by_a_coroutine_and_be_of_any_kind() -> None:
    async def factory() -> Any:
        await anyio.lowlevel.checkpoint()
        return lambda prompt: prompt.upper()

    assert await run(pooled(factory)) == ["HELLO"]


def test_what_they_can_take_is_what_the_first_can_take(made: list[Runtime]) -> None:
    assert pooled(Runtime).capabilities.vision is False
    assert len(made) == 1
    declared = Capabilities(logprobs=True)
    assert pooled(Runtime, capabilities=declared).capabilities == declared
    assert len(made) == 1


async def test_closing_the_pool_closes_those_that_are_idle_now_and_the_others_later(made: list[Runtime]) -> None:
    pool = pooled(Runtime)
    await at_once(pool, 2)
    async for _ in read(pool, request_for(), new_context()):
        await pool.aclose()
        assert sum([runtime.closed for runtime in made]) == 1
    assert [runtime.closed for runtime in made] == [1, 1]


async def test_an_agent_that_fails_to_close_fails_no_turn(caplog: pytest.LogCaptureFixture) -> None:
    class Unclosable:
        def run(self, prompt: str) -> str:
            return "fine"

        def close(self) -> None:
            raise OSError("cannot")

    with caplog.at_level(logging.WARNING):
        assert await run(pooled(Unclosable, idle=0)) == ["fine"]
    assert caplog.messages == ["req_1: a pooled agent could not be closed"]


async def test_a_factory_that_fails_fails_the_turn_and_not_the_next() -> None:
    attempts = iter([AgentError("Not yet.", status=503), lambda prompt: "fine"])

    async def factory() -> Any:
        made = next(attempts)
        if isinstance(made, Exception):
            raise made
        return made

    pool = pooled(factory)
    with pytest.raises(AgentError, match="Not yet"):
        await run(pool)
    assert await run(pool) == ["fine"]


async def test_backends_can_be_pooled_too() -> None:
    pool = pooled(lambda: SubprocessBackend([sys.executable, "-c", "print('hi')"]))
    assert await run(pool) == ["hi", Finished()]
