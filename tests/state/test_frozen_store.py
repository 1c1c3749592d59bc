"""A store that accepts calls and never answers: the request's deadline includes the wait, and nothing is added to it.

A request releases what it holds in the background; its client does not wait for that.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from openai_compat import AgentError, ChatWebSocket, Conversations, Deadlines, Disconnect, MemoryStore, Server
from openai_compat.http import HttpRequest
from openai_compat.server import STORE_TIMEOUT
from openai_compat.stores.records import Key
from openai_compat_adapters.websocket import connect
from tests.api.chat_websocket.client import chat as chat_websocket
from tests.requirements import requirement
from tests.stores.postgres_cluster import Cluster
from tests.stores.postgres_proxy import proxy
from tests.support import clocks
from tests.support.exchanges import CHAT, Recorder, answer, ask, request
from tests.support.stepping import eventually

pytestmark = pytest.mark.anyio

RESPONSES = "/v1/responses"
NAMED = (b"x-conversation-id", b"c")
KEYED = (b"idempotency-key", b"k")
DEADLINES = Deadlines(request=6.0)


@pytest.fixture(params=clocks.backends(), ids=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


class Frozen(MemoryStore):
    """Does not answer these calls until it is thawed; `asked` records them."""

    shared = True
    silent = frozenset({"begin", "release", "claim", "settle", "begin_response", "commit", "chain"})

    def __init__(self, *silent: str) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.frozen = True
        self._silent = frozenset(silent) or self.silent
        self._thawed = anyio.Event()

    def thaw(self) -> None:
        self.frozen = False
        self._thawed.set()

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        return self._waiting(name, method) if name in Frozen.silent else method

    def _waiting(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*arguments: Any, **named: Any) -> Any:
            self.asked.append(name)
            if name in self._silent:
                await self._thawed.wait()
            return await method(*arguments, **named)

        return call


async def never(prompt: str) -> AsyncIterator[str]:
    raise AssertionError("the agent was started")
    yield


REQUESTS: dict[str, tuple[dict[str, Any], Callable[[], HttpRequest]]] = {
    "conversation": ({"conversations": Conversations()}, lambda: request(CHAT, ask(), NAMED)),
    "conversation, streamed": ({"conversations": Conversations()}, lambda: request(CHAT, ask(stream=True), NAMED)),
    "key": ({}, lambda: request(CHAT, ask(), KEYED)),
    "key and conversation": ({"conversations": Conversations()}, lambda: request(CHAT, ask(), NAMED, KEYED)),
    "journal": ({"disconnect": Disconnect("detach")}, lambda: request(CHAT, ask(stream=True))),
    "response": (
        {"disconnect": Disconnect("detach")},
        lambda: request(RESPONSES, {"model": "agent", "input": "hi", "stream": True}),
    ),
    "background": ({}, lambda: request(RESPONSES, {"model": "agent", "input": "hi", "background": True})),
    "chain": ({}, lambda: request(RESPONSES, {"model": "agent", "input": "hi", "previous_response_id": "resp_1"})),
}


@requirement("server.frozen_store")
@pytest.mark.parametrize("kind", REQUESTS)
async def test_the_deadline_covers_what_comes_before_the_agent(kind: str) -> None:
    settings, asked = REQUESTS[kind]
    store, sent = Frozen(), Recorder()
    server = Server(never, store=store, deadlines=DEADLINES, **settings)
    async with anyio.create_task_group() as group:
        group.start_soon(server.handle, asked(), sent)
        await eventually(lambda: store.asked)
        assert not sent.begun
        clocks.jump(6.1)
        for _ in range(200):
            await anyio.lowlevel.checkpoint()
        clocks.jump(1.1)  # the time that a release may take
        await eventually(lambda: sent.begun and sent.complete)
        assert (sent.status, sent.error["type"], sent.complete) == (503, "server_error", True)
        store.thaw()
    assert server.services.live.slots.used == 0


@requirement("server.frozen_store")
async def test_the_deadline_covers_what_comes_before_the_agent_over_the_chat_websocket() -> None:
    store = Frozen()
    server = Server(never, store=store, deadlines=DEADLINES, chat_websocket=ChatWebSocket(ping=3600))
    async with chat_websocket(server) as client:
        await client.say()
        await eventually(lambda: store.asked)
        clocks.jump(6.1)
        for _ in range(200):
            await anyio.lowlevel.checkpoint()
        clocks.jump(1.1)
        assert (await client.error())[:1] == (503,)
        store.thaw()
    await eventually(lambda: not server.services.live.slots.used)


@requirement("server.frozen_store")
async def test_the_deadline_covers_what_comes_before_the_agent_over_the_responses_websocket() -> None:
    store = Frozen()
    server = Server(never, store=store, deadlines=DEADLINES, disconnect=Disconnect("detach"))
    async with connect(server, "/v1/responses") as websocket:
        await websocket.send(json.dumps({"type": "response.create", "model": "agent", "input": "hi"}))
        await eventually(lambda: store.asked)
        clocks.jump(6.1)
        for _ in range(200):
            await anyio.lowlevel.checkpoint()
        clocks.jump(1.1)
        told = json.loads(await websocket.receive())
        assert (told["type"], told["status"], told["error"]["type"]) == ("error", 503, "server_error")
        store.thaw()
    await eventually(lambda: not server.services.live.slots.used)


@requirement("server.frozen_store")
async def test_a_failure_is_told_though_the_conversation_cannot_be_given_back() -> None:
    async def fails(prompt: str) -> AsyncIterator[str]:
        raise AgentError("Not today.", status=409, code="not_today")
        yield

    store, sent = Frozen("release"), Recorder()
    server = Server(fails, store=store, deadlines=DEADLINES, conversations=Conversations())
    async with anyio.create_task_group() as group:
        group.start_soon(server.handle, request(CHAT, ask(), NAMED), sent)
        await eventually(lambda: "release" in store.asked)
        clocks.jump(1.1)
        await eventually(lambda: sent.begun and sent.complete)
        assert (sent.status, sent.error["code"]) == (409, "not_today")
        store.thaw()


@requirement("server.frozen_store")
async def test_what_was_given_back_late_is_free() -> None:
    async def echo(prompt: str) -> str:
        return prompt

    store, sent = Frozen(), Recorder()
    server = Server(echo, store=store, deadlines=DEADLINES, conversations=Conversations())
    async with anyio.create_task_group() as group:
        group.start_soon(server.handle, request(CHAT, ask(), NAMED, KEYED), sent)
        await eventually(lambda: store.asked)
        clocks.jump(6.1)
        for _ in range(200):
            await anyio.lowlevel.checkpoint()
        clocks.jump(1.1)
        await eventually(lambda: sent.begun and sent.complete)
    store.thaw()
    await eventually(lambda: "settle" in store.asked)
    assert (await answer(server, request(CHAT, ask(), NAMED, KEYED))).status == 200


async def refused_while_frozen(server: Server, store: Frozen, asked: HttpRequest) -> None:
    sent = Recorder()
    async with anyio.create_task_group() as group:
        group.start_soon(server.handle, asked, sent)
        await eventually(lambda: store.asked)
        clocks.jump(6.1)
        await eventually(lambda: sent.begun and sent.complete)
    assert sent.status == 503


@requirement("server.frozen_store")
async def test_a_server_that_ends_waits_for_what_is_given_back_late() -> None:
    store = Frozen("begin")
    server = Server(never, store=store, deadlines=DEADLINES, conversations=Conversations())
    async with server.lifespan():
        await refused_while_frozen(server, store, request(CHAT, ask(), NAMED))
        store.thaw()
    assert store.asked == ["begin", "release"]
    assert await store.begin(Key("", "c"), "another turn", 30.0) is not None


@requirement("server.frozen_store")
async def test_a_store_that_stays_frozen_does_not_keep_a_server_from_ending() -> None:
    store, ended = Frozen("begin", "release"), anyio.Event()
    server = Server(never, store=store, deadlines=DEADLINES, conversations=Conversations())

    async def serve() -> None:
        async with server.lifespan():
            await refused_while_frozen(server, store, request(CHAT, ask(), NAMED))
        ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        await eventually(lambda: "release" in store.asked)
        for _ in range(200):
            await anyio.lowlevel.checkpoint()
        clocks.jump(STORE_TIMEOUT + 0.1)
        with anyio.fail_after(20):
            await ended.wait()
        store.thaw()


@requirement("server.frozen_store")
@pytest.mark.parametrize("kind", REQUESTS)
def test_an_event_loop_that_ends_while_postgresql_is_frozen_leaves_no_task(
    kind: str, postgres: Cluster, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openai_compat.server.STORE_TIMEOUT", 0.1)
    settings, asked = REQUESTS[kind]

    async def serve() -> asyncio.AbstractEventLoop:
        async with proxy(postgres.port) as between:
            url = postgres_url.replace(str(postgres.port), str(between.port))
            server = Server(never, store=f"{url}?timeout=2", deadlines=Deadlines(request=0.3), **settings)
            async with server.lifespan():
                await server.services.state.store.check()
                between.freeze()
                sent = Recorder()
                await server.handle(asked(), sent)
                assert sent.status == 503
        return asyncio.get_running_loop()

    loop = asyncio.run(serve())
    assert not asyncio.all_tasks(loop)


@requirement("server.frozen_store")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("kind", REQUESTS)
async def test_a_postgresql_that_is_frozen_keeps_nobody_waiting(
    kind: str, anyio_backend: str, postgres: Cluster, postgres_url: str
) -> None:
    settings, asked = REQUESTS[kind]
    async with proxy(postgres.port) as between:
        url = postgres_url.replace(str(postgres.port), str(between.port))
        server = Server(never, store=f"{url}?timeout=40", deadlines=Deadlines(request=0.5), **settings)
        async with server.lifespan():
            await server.services.state.store.check()
            between.freeze()
            try:
                sent = Recorder()
                with anyio.fail_after(20):  # half of the timeout of a statement
                    await server.handle(asked(), sent)
                assert sent.status == 503
            finally:
                between.thaw()
