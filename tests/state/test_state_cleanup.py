"""Agents are told to forget unreachable states at least once, whatever goes wrong."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from openai_compat import AgentRequest, Conversations, Finished, MemoryStore, Server
from openai_compat.backend import Capabilities, RunContext
from openai_compat.state.maintenance import StoreMaintenance
from openai_compat.stores.port import Key, Store
from openai_compat.stores.sql import SqlStore
from tests.requirements import requirement
from tests.stores.conftest import engine_of
from tests.stores.samples import time_passes
from tests.support.exchanges import Recorder, answer, request

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """asyncpg works on asyncio only."""
    return "asyncio"


class Plain:
    """Begins a session if it has none, and answers with the session's name."""

    capabilities = Capabilities(keeps_state=True)

    def __init__(self) -> None:
        self.sessions = 0

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        if request.state is None:
            self.sessions += 1
        session = self.sessions if request.state is None else request.state["session"]
        if request.prompt == "fail":
            raise RuntimeError("a failure")
        yield str(session)
        yield Finished(state={"session": session, "at": request.prompt})


class Keeper(Plain):
    """Records the states to forget; fails a configured number of times."""

    def __init__(self, *, failures: int = 0) -> None:
        super().__init__()
        self.forgotten: list[Any] = []
        self.failures = failures

    def forget(self, state: Mapping[str, Any]) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("no connection")
        self.forgotten.append(state["session"])


class AsyncKeeper(Keeper):
    async def forget(self, state: Mapping[str, Any]) -> None:
        await anyio.sleep(0)
        super().forget(state)


@pytest.fixture(params=("memory", "sqlite", "postgresql"))
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqlStore(engine_of(request.param, request, tmp_path))
    yield made
    await made.aclose()


def served(agents: Any, store: Store) -> Server:
    return Server(agents, store=store, conversations=Conversations())


async def chat(server: Server, text: str, conversation: str = "trip") -> Recorder:
    body = {"model": "agent", "messages": [{"role": "user", "content": text}]}
    return await answer(server, request("/v1/chat/completions", body, (b"x-conversation-id", conversation.encode())))


async def respond(server: Server, previous: str | None = None) -> str:
    body = {"model": "agent", "input": "go", "previous_response_id": previous}
    made: str = (await answer(server, request("/v1/responses", body))).json["id"]
    return made


async def delete(server: Server, path: str) -> Recorder:
    return await answer(server, request(f"/v1/{path}", {}, method="DELETE"))


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.01)


@requirement("state.forget")
@pytest.mark.parametrize("keeper", [Keeper, AsyncKeeper])
async def test_a_session_is_forgotten_with_its_conversation(store: Store, keeper: type[Keeper]) -> None:
    agent = keeper()
    server = served(agent, store)
    for text in ("one", "two"):
        await chat(server, text)
    await chat(server, "other", "another")
    assert agent.forgotten == []
    assert (await delete(server, "conversations/trip")).status == 200
    await until(lambda: agent.forgotten)
    assert agent.forgotten == [1]
    assert await store.gone_states(None, 10) == []


@requirement("state.forget")
async def test_a_session_is_not_forgotten_as_long_as_a_branch_of_it_can_be_continued(store: Store) -> None:
    agent = Keeper()
    server = served(agent, store)
    first = await respond(server)
    left, right = await respond(server, first), await respond(server, first)
    other = await respond(server)
    for gone in (left, first, other):
        await delete(server, f"responses/{gone}")
    await until(lambda: agent.forgotten)
    assert agent.forgotten == [2]
    await delete(server, f"responses/{right}")
    await until(lambda: len(agent.forgotten) > 1)
    assert agent.forgotten == [2, 1]


@requirement("state.forget")
async def test_a_failure_to_forget_fails_nothing_and_is_made_good_by_the_sweep(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    agent = Keeper(failures=1)
    server = served(agent, store)
    await chat(server, "one")
    with caplog.at_level(logging.WARNING):
        assert (await delete(server, "conversations/trip")).status == 200
        await until(lambda: not agent.failures)
    await until(lambda: "could not forget" in caplog.text)
    assert agent.forgotten == []
    maintenance = StoreMaintenance(store, 60, every=0.01, cleanup=server.services.state.cleanup)
    await maintenance.begin()
    await until(lambda: agent.forgotten)
    await maintenance.end()
    assert agent.forgotten == [1]


@requirement("state.forget")
async def test_what_was_not_used_for_too_long_is_forgotten(tmp_path: Path) -> None:
    engine = engine_of("sqlite", None, tmp_path)
    store, agent = SqlStore(engine), Keeper()
    server = served(agent, store)
    await chat(server, "one")
    await respond(server)
    await time_passes(engine, 100)
    await store.sweep(50)
    await server.services.state.cleanup.forget()
    assert sorted(agent.forgotten) == [1, 2]
    assert await store.gone_states(None, 10) == []
    await store.aclose()


@requirement("state.forget")
async def test_what_memory_has_no_room_for_is_forgotten() -> None:
    agent = Keeper()
    server = served(agent, MemoryStore(max_items=1))
    await chat(server, "one", "first")
    await chat(server, "two", "second")
    await server.services.state.cleanup.forget()
    assert agent.forgotten == [1]


@requirement("state.forget")
async def test_a_session_that_another_one_takes_the_place_of_is_forgotten(store: Store) -> None:
    agent, other = Keeper(), Keeper()
    server = served({"agent": agent, "other": other}, store)
    await chat(server, "one")
    body = {"model": "other", "messages": [{"role": "user", "content": "two"}]}
    await answer(server, request("/v1/chat/completions", body, (b"x-conversation-id", b"trip")))
    await server.services.state.cleanup.forget()
    assert (agent.forgotten, other.forgotten) == ([1], [])


@requirement("state.forget")
async def test_a_state_that_nothing_can_lead_to_is_forgotten(store: Store) -> None:
    agent = Keeper()
    server = served(agent, store)
    body = {"model": "agent", "messages": [{"role": "user", "content": "one"}]}
    assert (await answer(server, request("/v1/chat/completions", body))).status == 200
    body = {"model": "agent", "input": "two", "store": False}
    assert (await answer(server, request("/v1/responses", body))).status == 200
    await server.services.state.cleanup.forget()
    assert sorted(agent.forgotten) == [1, 2]


@requirement("state.forget")
async def test_what_another_server_serves_is_left_to_it_and_what_nobody_can_forget_is_dropped(store: Store) -> None:
    agent = Keeper()
    mine, theirs = served(agent, store), served({"theirs": Keeper(), "agent": Plain()}, store)
    await chat(mine, "one")
    assert await store.delete(Key("anonymous", "trip"))
    elsewhere = served({"theirs": Keeper()}, store)
    await elsewhere.services.state.cleanup.forget()
    assert len(await store.gone_states(None, 10)) == 1
    await theirs.services.state.cleanup.forget()
    assert (await store.gone_states(None, 10), agent.forgotten) == ([], [])
