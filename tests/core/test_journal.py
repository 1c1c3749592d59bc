"""Event logs are copied to the store while their streams go on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import pytest

from openai_compat import MemoryStore, Server
from openai_compat.errors import Unavailable
from openai_compat.eventlog import AHEAD, AT_ONCE
from openai_compat.stores.port import Events, Key

from .exchanges import Recorder, request

pytestmark = pytest.mark.anyio
PRINCIPAL = "anonymous"


class SlowStore(MemoryStore):
    """Event logs are not written before it is let go; then, while it is `down`, not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.writing, self.most, self.down = anyio.Event(), 0, 0, False

    async def append(self, key: Key, token: str, events: Events) -> bool:
        self.writing += 1
        self.most = max(self.most, self.writing)
        try:
            await self.go.wait()
        finally:
            self.writing -= 1
        if self.down:
            raise Unavailable("The store is down.")
        return await super().append(key, token, events)


class Counting:
    """Says so many numbers, with a step of the event loop between them."""

    def __init__(self, number: int) -> None:
        self.number, self.said = number, 0

    async def __call__(self, prompt: str) -> AsyncIterator[str]:
        for number in range(1, self.number + 1):
            self.said = number
            await anyio.lowlevel.checkpoint()
            yield f"{number} "


def background() -> Any:
    body = {"model": "agent", "input": "Count.", "background": True, "stream": True}
    return request("/v1/responses", body)


def events(data: bytes | str) -> list[dict[str, Any]]:
    text = data.decode() if isinstance(data, bytes) else data
    return [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: {")]


async def logged(store: MemoryStore, made: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events of a response that the store has."""
    key = Key(PRINCIPAL, made[0]["response"]["id"])
    return [event for batch in await store.events(key, -1) for event in events(batch.body)]


async def test_a_stream_goes_on_while_its_events_are_written() -> None:
    store, client = SlowStore(), Recorder()
    server = Server(Counting(300), store=store)
    async with anyio.create_task_group() as group:
        group.start_soon(server.handle, background(), client)
        await anyio.wait_all_tasks_blocked()
        assert '"300 "' in client.data.decode()
        assert "response.completed" not in client.data.decode()
        store.go.set()

    assert events(client.data)[-1]["type"] == "response.completed"
    assert await logged(store, events(client.data)) == events(client.data)


async def test_a_stream_waits_for_a_copy_that_is_far_behind() -> None:
    store, client, agent = SlowStore(), Recorder(), Counting(2 * AHEAD)
    server = Server(agent, store=store)
    async with anyio.create_task_group() as group:
        group.start_soon(server.handle, background(), client)
        await anyio.wait_all_tasks_blocked()
        assert AHEAD <= agent.said < AHEAD + 1000
        store.go.set()

    assert await logged(store, events(client.data)) == events(client.data)


async def test_a_stream_does_not_wait_for_a_store_that_is_down() -> None:
    store, client, agent = SlowStore(), Recorder(), Counting(2 * AHEAD)
    store.down = True
    store.go.set()
    with anyio.fail_after(50):
        await Server(agent, store=store).handle(background(), client)

    assert events(client.data)[-1]["type"] == "response.completed"
    assert await logged(store, events(client.data)) == events(client.data)  # written with the outcome


async def test_a_few_logs_are_written_at_once_however_many_there_are() -> None:
    store, clients = SlowStore(), [Recorder() for _ in range(2 * AT_ONCE)]
    server = Server(Counting(100), store=store)
    async with anyio.create_task_group() as group:
        for client in clients:
            group.start_soon(server.handle, background(), client)
        await anyio.wait_all_tasks_blocked()
        assert store.writing == AT_ONCE
        store.go.set()

    assert store.most == AT_ONCE
    for client in clients:
        assert await logged(store, events(client.data)) == events(client.data)
