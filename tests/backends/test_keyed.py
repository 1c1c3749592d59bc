"""Warm agents, one per session."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import anyio
import pytest

from openai_compat import AgentRequest, Capabilities, Conversations, Finished, RunContext, Server
from openai_compat.agent_request import Principal
from openai_compat.backends.pool import KeyedBackend, keyed
from tests.backends.support import new_context, read, request_for, run, user
from tests.requirements import requirement
from tests.transports import reach

pytestmark = pytest.mark.anyio


class Talker:
    """Remembers its prompts, and returns the number of its turns as state."""

    made: list[Talker]

    def __init__(self, request: AgentRequest) -> None:
        self.made.append(self)
        self.heard: list[str] = []
        self.began_with = request.state
        self.closed = 0

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        self.heard.append(request.prompt)
        yield " ".join(self.heard)
        if request.prompt == "fail":
            raise ValueError
        yield Finished(state={"turns": len(self.heard)})

    async def aclose(self) -> None:
        self.closed += 1


@pytest.fixture
def made() -> list[Talker]:
    Talker.made = []
    return Talker.made


def of(session: str | None, prompt: str, state: Mapping[str, Any] | None = None, who: str = "ann") -> AgentRequest:
    return replace(request_for(prompt), principal=Principal(who), conversation_id=session, state=state)


async def said(backend: KeyedBackend, request: AgentRequest) -> Any:
    return (await run(backend, request))[0]


@requirement("backend.keyed")
async def test_each_session_has_its_own_agent_and_gets_it_again(made: list[Talker]) -> None:
    backend = keyed(Talker)
    assert await said(backend, of("trip", "one")) == "one"
    assert await said(backend, of("other", "two")) == "two"
    assert await said(backend, of("trip", "three", {"turns": 1})) == "one three"
    assert len(made) == 2
    await backend.aclose()
    assert [talker.closed for talker in made] == [1, 1]


@requirement("backend.keyed")
async def test_two_principals_with_one_id_have_an_agent_each(made: list[Talker]) -> None:
    backend = keyed(Talker)
    await run(backend, of("trip", "secret"))
    assert await said(backend, of("trip", "hello", {"turns": 1}, who="bob")) == "hello"
    await backend.aclose()


@requirement("backend.keyed")
async def test_one_that_knows_another_conversation_is_made_again_from_the_state(made: list[Talker]) -> None:
    backend = keyed(Talker)
    await run(backend, of("trip", "one"))
    assert await said(backend, of("trip", "a fork", {"turns": 7})) == "a fork"
    assert (made[0].closed, made[1].began_with) == (1, {"turns": 7})
    await backend.aclose()


@requirement("backend.keyed")
@pytest.mark.parametrize("how", ["fails", "is stopped"])
async def test_a_turn_that_does_not_end_well_costs_the_session_its_agent(made: list[Talker], how: str) -> None:
    backend = keyed(Talker)
    if how == "fails":
        with pytest.raises(ValueError):
            await run(backend, of("trip", "fail"))
    else:
        context = new_context()
        async for _ in read(backend, of("trip", "one"), context):
            context.cancel()
    assert made[0].closed == 1
    assert await said(backend, of("trip", "two")) == "two"
    await backend.aclose()


@requirement("backend.keyed")
async def test_without_a_session_the_agent_is_made_for_the_turn(made: list[Talker]) -> None:
    backend = keyed(Talker)
    assert [await said(backend, of(None, "one")) for _ in range(2)] == ["one", "one"]
    assert [talker.closed for talker in made] == [1, 1]


@requirement("backend.keyed")
async def test_two_turns_of_a_session_at_once_have_an_agent_each(made: list[Talker]) -> None:
    backend = keyed(Talker)
    outer = read(backend, of("trip", "one"), new_context())
    await anext(outer)
    assert await said(backend, of("trip", "two")) == "two"
    async for _ in outer:
        pass
    assert len(made) == 2
    assert sum(talker.closed for talker in made) == 1
    await backend.aclose()


@requirement("backend.keyed")
async def test_so_many_are_kept_and_the_one_that_was_not_used_for_longest_goes_first(made: list[Talker]) -> None:
    backend = keyed(Talker, idle=2)
    for session in ("a", "b"):
        await run(backend, of(session, "one"))
    await run(backend, of("a", "again", {"turns": 1}))
    await run(backend, of("c", "one"))
    with anyio.fail_after(5):
        while not made[1].closed:
            await anyio.lowlevel.checkpoint()
    assert [talker.closed for talker in made] == [0, 1, 0]
    await backend.aclose()


@requirement("backend.keyed")
async def test_one_that_nobody_needs_for_its_time_is_closed(made: list[Talker]) -> None:
    backend = keyed(Talker, seconds=0.01)
    await run(backend, of("trip", "one"))
    with anyio.fail_after(5):
        while not made[0].closed:
            await anyio.sleep(0.005)
    assert await said(backend, of("trip", "two", {"turns": 1})) == "two"
    assert made[1].began_with == {"turns": 1}
    await backend.aclose()


@requirement("backend.keyed")
async def test_one_that_cannot_be_closed_is_in_the_log(made: list[Talker], caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(Talker):
        async def aclose(self) -> None:
            raise OSError("stuck")

    backend = keyed(Stuck, seconds=0)
    with caplog.at_level(logging.WARNING, "openai_compat"), anyio.fail_after(5):
        await run(backend, of("trip", "one"))
        while not caplog.records:
            await anyio.sleep(0.005)
    assert caplog.messages == ["a warm agent could not be closed"]


@requirement("backend.keyed")
async def test_over_a_server_a_session_is_a_conversation(made: list[Talker]) -> None:
    async def make(request: AgentRequest) -> Talker:
        await anyio.lowlevel.checkpoint()
        return Talker(request)

    server = Server(keyed(make, capabilities=Capabilities()), conversations=Conversations())
    async with server.lifespan(), reach(server, "in-process") as client:
        for prompt in ("one", "two", "three"):
            body = {"model": "agent", "messages": [user(prompt)]}
            answer = await client.post("/v1/chat/completions", json=body, headers={"X-Conversation-Id": "trip"})
    assert answer.json()["choices"][0]["message"]["content"] == "one two three"
    assert [talker.closed for talker in made] == [1]


@pytest.mark.parametrize("wrong", [{"idle": -1}, {"seconds": -1}])
def test_bounds_are_not_negative(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        keyed(Talker, **wrong)
