"""A request at one server reaches the turn that runs at another within a second, by a clock that only waiting moves.

The servers share an in-memory store, so only their own polling takes time; a slow machine changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import anyio
import pytest
import trio.testing

from openai_compat import AgentRequest, ChatRest, ChatWebSocket, Conversations, MemoryStore, Server
from openai_compat.events import ToolCallReady
from openai_compat.providers import Providers
from openai_compat.providers.port import ProviderSettings
from tests.api.chat_websocket.client import chat
from tests.requirements import requirement
from tests.support.exchanges import CHAT, answer, ask, request

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> Any:
    """Time stands still while any task runs, and jumps to the next timer when all tasks wait."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class Shared(MemoryStore):
    """Looks like a database to the servers that share it."""

    @property
    def shared(self) -> bool:
        return True


class Agent:
    """Waits forever if told to, and calls the client's tool for the user's location if asked for it."""

    def __init__(self) -> None:
        self.waits = anyio.Event()
        self.stopped = anyio.Event()

    async def __call__(self, request: AgentRequest) -> AsyncIterator[Any]:
        said = request.messages[-1].text if request.resume is None else ""
        if request.resume is not None:
            yield "You are in " + request.resume.results["call_1"].text
        elif said == "where am I?":
            yield ToolCallReady("call_1", "where", "{}")
        elif said == "wait":
            self.waits.set()
            try:
                await anyio.sleep_forever()
            finally:
                self.stopped.set()
        else:
            yield said


@asynccontextmanager
async def servers(agent: Agent, providers: list[Providers] | None = None) -> AsyncIterator[list[Server]]:
    store = Shared()
    async with AsyncExitStack() as stack:
        made: list[Server] = []
        for known in providers or [None, None]:
            server = Server(
                agent,
                store=store,
                providers=known,
                conversations=Conversations(busy="supersede"),
                chat_websocket=ChatWebSocket(),
                chat_rest=ChatRest(admins=frozenset(["anonymous"])),
            )
            await stack.enter_async_context(server.lifespan())
            made.append(server)
        yield made


@contextmanager
def within_a_second() -> Iterator[None]:
    began = anyio.current_time()
    yield
    assert anyio.current_time() - began <= 1.0


@requirement("several.supersede")
async def test_a_newer_message_stops_the_turn_and_has_its_place() -> None:
    agent = Agent()

    async def say(server: Server, prompt: str) -> int:
        said = ask(messages=[{"role": "user", "content": prompt}])
        return (await answer(server, request(CHAT, said, (b"x-conversation-id", b"c")))).status

    async with servers(agent) as (a, b), anyio.create_task_group() as group:
        group.start_soon(say, a, "wait")
        await agent.waits.wait()
        with within_a_second():
            assert await say(b, "newer") == 200
        assert agent.stopped.is_set()


@requirement("several.supersede")
@requirement("chatws.processes")
async def test_so_it_does_in_a_thread_of_the_chat_websocket() -> None:
    agent = Agent()
    async with servers(agent) as (a, b), chat(a) as at_a, chat(b) as at_b:
        await at_a.say("wait")
        await agent.waits.wait()
        with within_a_second():
            await at_b.say("newer")
            assert (await at_b.until("message"))[-1]["content"] == "newer"
        assert (await at_a.until("generation_stopped"))[-1]["reason"] == "superseded"


@requirement("chatws.processes")
async def test_who_stops_a_thread_at_another_server_stops_its_turn() -> None:
    agent = Agent()
    async with servers(agent) as (a, b), chat(a) as at_a, chat(b) as at_b:
        await at_a.say("wait")
        await agent.waits.wait()
        with within_a_second():
            await at_b.send(type="stop", thread_id="t")
            await agent.stopped.wait()
            assert (await at_a.until("generation_stopped"))[-1]["reason"] == "stop"


TOOL = {"name": "where", "description": "Where the user is.", "parameters": {"type": "object", "properties": {}}}


@requirement("chatws.processes")
async def test_the_result_of_a_clients_tool_reaches_its_turn() -> None:
    async with servers(Agent()) as (a, b), chat(a) as at_a, chat(b) as at_b:
        await at_a.send(type="client_tools_manifest", tools=[TOOL])
        await at_a.say("where am I?")
        await at_a.until("tool_call")
        with within_a_second():
            while True:  # until the store shows that the turn waits for it
                await at_b.send(type="tool_result", tool_call_id="call_1", result="Lisbon")
                if not await at_b.pong():
                    break
                await anyio.sleep(0.05)
            assert (await at_a.until("message"))[-1]["content"] == "You are in Lisbon"


@requirement("several.supersede")
async def test_who_cancels_a_response_at_another_server_stops_its_agent() -> None:
    agent = Agent()
    async with servers(agent) as (a, b):
        body = {"model": "agent", "input": "wait", "background": True}
        made = await answer(a, request("/v1/responses", body))
        await agent.waits.wait()
        with within_a_second():
            sent = await answer(b, request(f"/v1/responses/{made.json['id']}/cancel", {}))
            assert (sent.status, sent.json["status"]) == (200, "cancelled")
            await agent.stopped.wait()


@requirement("providers.stored")
async def test_a_setting_of_a_provider_is_that_of_the_other_server_too() -> None:
    own, others = [Providers({"groq": ProviderSettings(default_model="a")}) for _ in range(2)]
    async with servers(Agent(), [own, others]) as (a, _):
        with within_a_second():
            sent = await answer(a, request("/api/chat/providers/groq/configure", {"defaultModel": "b"}))
            assert sent.status == 200
            while others.settings("groq").default_model != "b":
                await anyio.sleep(0.05)
