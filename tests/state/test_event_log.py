"""Event logs are copied to the store while their streams go on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import anyio
import pytest
import uvloop

from openai_compat import MemoryStore, Server
from openai_compat.errors import Unavailable
from openai_compat.state.event_log import EventLog
from openai_compat.stores.port import LOG_BYTES, Events, Key
from tests.loops import anyio_backend as anyio_backend
from tests.requirements import requirement
from tests.support.exchanges import Recorder, request

pytestmark = pytest.mark.anyio
PRINCIPAL = "anonymous"


class SlowStore(MemoryStore):
    """Writes no event logs until it is released; after that, writes none while it is `down`."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.down = anyio.Event(), False
        self.appends: list[list[Key]] = []
        self.refused: Key | None = None

    async def append(self, batches: Sequence[tuple[Key, str, Events]]) -> frozenset[str]:
        keys = [key for key, _, _ in batches]
        self.appends.append(keys)
        await self.go.wait()
        if self.down:
            raise Unavailable("The store is down.")
        if self.refused in keys:
            raise ValueError("This one cannot be written.")
        return await super().append(batches)


class Counting:
    """Counts to a number, with a step of the event loop between the numbers."""

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
    """The stored events of a response."""
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


AHEAD = 3000


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai_compat.state.event_log.MAX_AHEAD", AHEAD)


@pytest.mark.usefixtures("ahead")
async def test_a_stream_waits_for_a_copy_that_is_far_behind() -> None:
    store, client, agent = SlowStore(), Recorder(), Counting(2 * AHEAD)
    server = Server(agent, store=store)
    async with anyio.create_task_group() as group:
        group.start_soon(server.handle, background(), client)
        await anyio.wait_all_tasks_blocked()
        assert AHEAD <= agent.said < AHEAD + 1000
        store.go.set()

    assert await logged(store, events(client.data)) == events(client.data)


@pytest.mark.usefixtures("ahead")
async def test_a_stream_does_not_wait_for_a_store_that_is_down() -> None:
    store, client, agent = SlowStore(), Recorder(), Counting(2 * AHEAD)
    store.down = True
    store.go.set()
    with anyio.fail_after(50):
        await Server(agent, store=store).handle(background(), client)

    assert events(client.data)[-1]["type"] == "response.completed"
    assert await logged(store, events(client.data)) == events(client.data)  # written with the outcome


async def test_all_logs_are_written_together_one_append_at_a_time() -> None:
    store, clients = SlowStore(), [Recorder() for _ in range(20)]
    server = Server(Talking(store.go), store=store)
    async with anyio.create_task_group() as group:
        for client in clients:
            group.start_soon(server.handle, background(), client)
        await anyio.wait_all_tasks_blocked()
        assert len(store.appends) == 1
        store.go.set()

    assert len(store.appends) < 10
    assert max([len(keys) for keys in store.appends]) == len(clients)
    for client in clients:
        assert await logged(store, events(client.data)) == events(client.data)


class Talking:
    """Outputs a word and, once released, ten more a second."""

    def __init__(self, go: anyio.Event) -> None:
        self.go = go

    async def __call__(self, prompt: str) -> AsyncIterator[str]:
        yield "word "
        await self.go.wait()
        for _ in range(10):
            yield "word "
            await anyio.sleep(0.1)


async def test_a_log_that_cannot_be_written_is_not_the_end_of_other_answers(caplog: pytest.LogCaptureFixture) -> None:
    store, clients = SlowStore(), [Recorder() for _ in range(3)]
    server = Server(Talking(store.go), store=store)
    async with anyio.create_task_group() as group:
        for client in clients:
            group.start_soon(server.handle, background(), client)
        await anyio.wait_all_tasks_blocked()
        store.refused = Key(PRINCIPAL, events(clients[1].data)[0]["response"]["id"])
        store.go.set()

    ends = [events(client.data)[-1]["type"] for client in clients]
    assert ends == ["response.completed", "response.failed", "response.completed"]
    assert "This one cannot be written." in caplog.text


MEBIBYTE = 1024 * 1024


async def large(prompt: str) -> AsyncIterator[str]:
    """Outputs more than the event buffer of one answer holds."""
    for _ in range(LOG_BYTES // (3 * MEBIBYTE)):
        yield "x" * (3 * MEBIBYTE)
        await anyio.lowlevel.checkpoint()


def follow(made: Sequence[dict[str, Any]], after: int) -> Any:
    path = f"/v1/responses/{made[0]['response']['id']}"
    return request(path, method="GET", query=f"stream=true&starting_after={after}")


@requirement("responses.log_bounded")
async def test_of_a_long_stream_the_last_events_are_kept_and_the_answer_is_whole() -> None:
    store, client, early, late = MemoryStore(), Recorder(), Recorder(), Recorder()
    server = Server(large, store=store)
    await server.handle(background(), client)
    made = events(client.data)
    assert made[-1]["type"] == "response.completed"

    await server.handle(follow(made, 0), early)
    await server.handle(follow(made, made[-1]["sequence_number"] - 1), late)
    assert early.status == 400
    assert json.loads(early.data)["error"]["code"] == "events_not_kept"
    assert events(late.data) == made[-1:]
    assert store.size < 4 * LOG_BYTES


def numbered(log: EventLog, size: int) -> Events:
    log.add(b"x" * size, log.last + 1)
    return Events(log.last, log.last, b"x" * size)


def test_a_log_drops_what_the_store_has_and_no_other() -> None:
    log = EventLog()
    for _ in range(20):
        numbered(log, MEBIBYTE)
    batch = log.unwritten_batch()
    assert batch is not None
    assert (batch.first, batch.last) == (0, 19)
    assert log.is_too_far_ahead
    log.mark_written(batch)
    assert not log.is_far_ahead
    numbered(log, MEBIBYTE)
    assert log.unwritten_batch() == Events(20, 20, b"x" * MEBIBYTE)


async def test_who_follows_is_told_how_far_and_nothing_after_a_gap() -> None:
    log = EventLog()
    for _ in range(20):
        log.mark_written(numbered(log, MEBIBYTE))
    log.end()
    assert [last async for _, last in log.follow(0)] == []
    assert [last async for _, last in log.follow(17)] == [19]
    assert [last async for _, last in log.follow(19)] == []


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_log_is_kept_on_a_loop_that_anyio_did_not_start(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """If a program runs its own event loop, anyio detects that loop in tasks, but not in callbacks."""
    failed: list[dict[str, Any]] = []

    async def agent(prompt: str) -> AsyncIterator[str]:
        for _ in range(30):
            yield "a "
            await asyncio.sleep(0.001)

    async def respond() -> int:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
        sent = Recorder()
        body = {"model": "agent", "input": "hi", "background": True, "stream": True}
        store = SlowStore()
        asyncio.get_running_loop().call_later(0.02, store.go.set)
        await Server(agent, store=store).handle(request("/v1/responses", body), sent)
        return sent.status

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(respond()) == 200
    assert not failed
