"""Settings are values: several servers can share them without affecting each other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from openai_compat import (
    Admission,
    ChatRest,
    ChatWebSocket,
    Compaction,
    Conversations,
    Cors,
    Deadlines,
    Disconnect,
    Housekeeping,
    Limits,
    MemoryStore,
    MessagePolicy,
    Rates,
    Server,
    Webhooks,
)
from openai_compat.stores.port import TurnCommit
from tests.api.chat_websocket.client import chat as chat_websocket
from tests.api.chat_websocket.client import text
from tests.loops import anyio_backend as anyio_backend
from tests.requirements import requirement
from tests.support.exchanges import CHAT, answer, ask, request

pytestmark = pytest.mark.anyio


async def echo(messages: list[dict[str, Any]]) -> AsyncIterator[str]:
    yield " / ".join([str(message["content"]) for message in messages])


async def post(url: str, headers: Any, body: bytes) -> int:
    return 200


SETTINGS: dict[str, Callable[[], dict[str, Any]]] = {
    "conversations": lambda: {"conversations": Conversations()},
    "conversations that queue": lambda: {"conversations": Conversations(busy="queue", by_transcript=True)},
    "store": lambda: {"store": MemoryStore(), "conversations": Conversations()},
    "limits": lambda: {"limits": Limits(slots=1), "admission": Admission(queue=5)},
    "rates": lambda: {"rates": Rates(1000)},
    "the rest": lambda: {
        "deadlines": Deadlines(),
        "disconnect": Disconnect(),
        "messages": MessagePolicy(),
        "compaction": Compaction(),
        "housekeeping": Housekeeping(),
        "cors": Cors(["https://page.example"]),
        "chat_rest": ChatRest(),
    },
}


@requirement("server.settings")
@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("stream", [False, True])
async def test_two_servers_with_the_same_settings_answer_turn_after_turn(kind: str, stream: bool) -> None:
    settings = SETTINGS[kind]()
    servers = [Server(echo, **settings) for _ in range(2)]
    for turn in range(2):
        for name, server in zip("ab", servers, strict=True):
            said = ask(messages=[{"role": "user", "content": f"{name}{turn}"}], stream=stream)
            sent = await answer(server, request(CHAT, said, (b"x-conversation-id", name.encode())))
            assert sent.status == 200, sent.data
            assert sent.text.endswith(f"{name}{turn}"), sent.text


@requirement("server.settings")
async def test_two_servers_with_one_store_keep_each_other_out_of_a_conversation() -> None:
    begun, go_on = anyio.Event(), anyio.Event()

    async def slow(prompt: str) -> AsyncIterator[str]:
        begun.set()
        await go_on.wait()
        yield prompt

    settings, store = Conversations(), MemoryStore()
    first = Server(slow, conversations=settings, store=store)
    second = Server(echo, conversations=settings, store=store)
    named = (b"x-conversation-id", b"c")
    statuses: list[int] = []

    async def run() -> None:
        statuses.append((await answer(first, request(CHAT, ask(), named))).status)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await begun.wait()
        busy = await answer(second, request(CHAT, ask(), named))
        assert (busy.status, busy.error["code"]) == (409, "conversation_busy")
        go_on.set()
    assert statuses == [200]
    assert (await answer(second, request(CHAT, ask(), named))).text == "hi / hi / hi"


@requirement("server.settings")
async def test_two_servers_with_one_chat_websocket_have_threads_of_their_own() -> None:
    socket = ChatWebSocket()
    servers = [Server(echo, chat_websocket=socket) for _ in range(2)]
    for server in servers:
        async with chat_websocket(server) as client:
            assert text(await client.ask("one")) == "one"
            assert text(await client.ask("two")) == "one / one / two"


@requirement("server.settings")
async def test_a_server_that_ends_leaves_the_others_webhooks_alone() -> None:
    stuck, go_on, posted = anyio.Event(), anyio.Event(), list[str]()

    async def slow(url: str, headers: Any, body: bytes) -> int:
        stuck.set()
        await go_on.wait()
        posted.append(url)
        return 200

    settings = Webhooks("https://hooks.example/here", secret="a secret", post=slow)
    first, second = Server(echo, webhooks=settings), Server(echo, webhooks=settings)
    state = second.services.state
    notices = state.outbox.notices("response.completed", "resp_1", "ann")
    await state.store.commit(TurnCommit(principal="ann", token="t", notices=notices))
    state.outbox.wake()
    await stuck.wait()
    with anyio.fail_after(20):
        async with first.lifespan():
            pass
    go_on.set()
    with anyio.fail_after(20):
        async with second.lifespan():
            pass
    assert posted == ["https://hooks.example/here"]
