"""The in-process client: OpenAI's own clients on a server without a socket."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import openai
import pytest

from openai_compat import Deadlines, RunContext, Server
from openai_compat.aio import background
from openai_compat_adapters.client import async_openai, sync_openai
from openai_compat_adapters.transport import AsyncTransport, SyncTransport
from tests.trust.probe import CHAT, Endless, EndlessThread, ask, error_of, eventually, soon

HI: Any = [{"role": "user", "content": "Bob"}]
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])
ENDLESS = pytest.mark.parametrize("agent_type", [Endless, EndlessThread])


async def greeter(prompt: str) -> AsyncIterator[str]:
    yield "Hello, "
    yield prompt


def plain_greeter(prompt: str) -> Iterator[str]:
    yield "Hello, "
    yield prompt


GREETERS = {"async": greeter, "thread": plain_greeter}


def content(chunk: Any) -> str:
    return chunk.choices[0].delta.content or ""


# the async client


@pytest.mark.anyio
@on_asyncio
@pytest.mark.parametrize("model", GREETERS)
async def test_the_async_client_asks_and_streams(model: str) -> None:
    async with async_openai(Server(GREETERS)) as client:
        answer = await client.chat.completions.create(model=model, messages=HI)
        assert answer.choices[0].message.content == "Hello, Bob"
        stream = await client.chat.completions.create(model=model, messages=HI, stream=True)
        assert [content(chunk) async for chunk in stream] == ["", "Hello, ", "Bob", ""]
        async with client.chat.completions.stream(model=model, messages=HI) as helper:
            final = await helper.get_final_completion()
        assert final.choices[0].message.content == "Hello, Bob"
        assert [m.id async for m in client.models.list()] == ["async", "thread"]
        with pytest.raises(openai.NotFoundError) as error:
            await client.chat.completions.create(model="other", messages=HI)
        assert (error.value.code, error.value.param) == ("model_not_found", "model")


@pytest.mark.anyio
@on_asyncio
async def test_the_async_client_sees_each_piece_before_the_next_is_made() -> None:
    go = anyio.Event()

    async def patient(prompt: str) -> AsyncIterator[str]:
        yield "first"
        await go.wait()
        yield "second"

    async with async_openai(Server(patient)) as client:
        pieces: list[str] = []
        with anyio.fail_after(10):
            async for chunk in await client.chat.completions.create(model="agent", messages=HI, stream=True):
                pieces.append(content(chunk))
                if pieces[-1] == "first":
                    assert not go.is_set()
                    go.set()
    assert pieces == ["", "first", "second", ""]


@pytest.mark.anyio
@on_asyncio
@ENDLESS
async def test_closing_an_async_stream_stops_the_agent(agent_type: type[Endless]) -> None:
    agent = agent_type("begun")
    server = Server(agent)
    async with async_openai(server) as client:
        stream = await client.chat.completions.create(model="agent", messages=HI, stream=True)
        async for chunk in stream:
            if content(chunk):
                break
        await stream.close()
        assert agent.stopped.is_set()
        await soon(lambda: server.services.live.slots.used == 0)


@pytest.mark.anyio
@on_asyncio
@ENDLESS
@pytest.mark.parametrize("stream", [False, True])
async def test_cancelling_the_task_that_waits_stops_the_agent(agent_type: type[Endless], stream: bool) -> None:
    agent = agent_type()
    server = Server(agent)
    async with async_openai(server) as client:
        waiting = asyncio.create_task(client.chat.completions.create(model="agent", messages=HI, stream=stream))
        await soon(agent.waits.is_set)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert agent.stopped.is_set()
        await soon(lambda: server.services.live.slots.used == 0)


@pytest.mark.anyio
@on_asyncio
@ENDLESS
async def test_a_timeout_of_the_async_client_is_the_sdks_own_and_stops_the_agent(agent_type: type[Endless]) -> None:
    agent = agent_type("begun")
    server = Server(agent)
    async with async_openai(server, timeout=0.1, max_retries=0) as client:
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(model="agent", messages=HI)
        assert agent.stopped.is_set()
        agent.stopped.clear()
        stream = await client.chat.completions.create(model="agent", messages=HI, stream=True)
        with pytest.raises(openai.APITimeoutError):
            async for _ in stream:
                pass
        await stream.close()
        assert agent.stopped.is_set()
        await soon(lambda: server.services.live.slots.used == 0)


@pytest.mark.anyio
@on_asyncio
async def test_an_answer_that_was_cut_is_a_connection_error() -> None:
    """A reader slower than the write deadline is cut off, and must not take the part for the whole answer."""
    agent = Endless(*["x" * 100_000] * 10)
    async with async_openai(Server(agent, deadlines=Deadlines(write=0.05)), max_retries=0) as client:
        stream = await client.chat.completions.create(model="agent", messages=HI, stream=True)
        await soon(agent.stopped.is_set)
        with pytest.raises(openai.APIConnectionError):
            async for _ in stream:
                pass


@pytest.mark.anyio
@on_asyncio
async def test_the_async_client_leaves_no_task_and_no_thread_behind() -> None:
    server = Server({**GREETERS, "endless": Endless("begun")})
    async with async_openai(server, max_retries=0) as client:
        await client.models.list()  # the SDK inspects the platform once, in a thread that stays
        tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
        running = set(background._running)
        for model in GREETERS:
            for _ in range(5):
                await client.chat.completions.create(model=model, messages=HI)
                async for _ in await client.chat.completions.create(model=model, messages=HI, stream=True):
                    pass
                with pytest.raises(openai.BadRequestError):
                    await client.chat.completions.create(model=model, messages=HI, temperature=9)
        for _ in range(5):
            async with await client.chat.completions.create(model="endless", messages=HI, stream=True) as stream:
                async for chunk in stream:
                    if content(chunk):
                        break
        await soon(lambda: running >= background._running)
    assert asyncio.all_tasks() == tasks
    await soon(lambda: set(threading.enumerate()) <= threads)


@pytest.mark.anyio
@on_asyncio
async def test_an_agent_may_ask_another_agent_of_its_own_server() -> None:
    """A server does not block itself, and agents see the context variables of the call."""

    async def outer(prompt: str) -> str:
        async with async_openai(server) as client:
            answer = await client.chat.completions.create(model="inner", messages=HI)
        return f"the inner says: {answer.choices[0].message.content}"

    server = Server({"outer": outer, "inner": greeter})
    async with async_openai(server) as client:
        answer = await client.chat.completions.create(model="outer", messages=HI)
    assert answer.choices[0].message.content == "the inner says: Hello, Bob"


# the sync client


@pytest.mark.parametrize("model", GREETERS)
def test_the_sync_client_asks_and_streams(model: str) -> None:
    with sync_openai(Server(GREETERS)) as client:
        answer = client.chat.completions.create(model=model, messages=HI)
        assert answer.choices[0].message.content == "Hello, Bob"
        stream = client.chat.completions.create(model=model, messages=HI, stream=True)
        assert [content(chunk) for chunk in stream] == ["", "Hello, ", "Bob", ""]
        with client.chat.completions.stream(model=model, messages=HI) as helper:
            final = helper.get_final_completion()
        assert final.choices[0].message.content == "Hello, Bob"
        assert [m.id for m in client.models.list()] == ["async", "thread"]
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="other", messages=HI)


@pytest.mark.parametrize("kind", ["async", "thread"])
def test_the_sync_client_sees_each_piece_before_the_next_is_made(kind: str) -> None:
    go = threading.Event()

    async def patient(prompt: str) -> AsyncIterator[str]:
        yield "first"
        while not go.is_set():
            await anyio.sleep(0.005)
        yield "second"

    def patient_thread(prompt: str) -> Iterator[str]:
        yield "first"
        assert go.wait(20)
        yield "second"

    with sync_openai(Server({"async": patient, "thread": patient_thread})) as client:
        pieces: list[str] = []
        for chunk in client.chat.completions.create(model=kind, messages=HI, stream=True):
            pieces.append(content(chunk))
            if pieces[-1] == "first":
                assert not go.is_set()
                go.set()
    assert pieces == ["", "first", "second", ""]


@ENDLESS
def test_closing_a_sync_stream_stops_the_agent(agent_type: type[Endless]) -> None:
    agent = agent_type("begun")
    server = Server(agent)
    with sync_openai(server) as client:
        with client.chat.completions.create(model="agent", messages=HI, stream=True) as stream:
            for chunk in stream:
                if content(chunk):
                    break
        assert agent.stopped.is_set()
        eventually(lambda: server.services.live.slots.used == 0)


@ENDLESS
def test_a_timeout_of_the_sync_client_is_the_sdks_own_and_stops_the_agent(agent_type: type[Endless]) -> None:
    agent = agent_type("begun")
    server = Server(agent)
    with sync_openai(server, timeout=0.1, max_retries=0) as client:
        with pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(model="agent", messages=HI)
        assert agent.stopped.is_set()
        agent.stopped.clear()
        stream = client.chat.completions.create(model="agent", messages=HI, stream=True)
        with pytest.raises(openai.APITimeoutError):
            list(stream)
        stream.close()
        assert agent.stopped.is_set()
        eventually(lambda: server.services.live.slots.used == 0)


def test_the_sync_client_retries_as_against_any_server_and_runs_a_failing_agent_once() -> None:
    runs = 0

    async def agent(prompt: str) -> str:
        nonlocal runs
        runs += 1
        raise RuntimeError("no")

    with sync_openai(Server(agent)) as client, pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="agent", messages=HI)
    assert runs == 1


def test_a_stream_that_nobody_closes_is_stopped_when_it_is_collected() -> None:
    agent = Endless("begun")
    server = Server(agent)
    client = sync_openai(server)
    threads = threading.active_count()
    stream = client.chat.completions.create(model="agent", messages=HI, stream=True)
    for chunk in stream:
        if content(chunk):
            break
    del stream, chunk
    gc.collect()
    assert agent.stopped.wait(10)
    eventually(lambda: threading.active_count() <= threads)


def test_the_sync_client_has_a_thread_only_while_something_is_answered() -> None:
    before = threading.active_count()
    with sync_openai(Server(GREETERS)) as client:
        for model in GREETERS:
            client.chat.completions.create(model=model, messages=HI)
            list(client.chat.completions.create(model=model, messages=HI, stream=True))
        eventually(lambda: threading.active_count() <= before)


def test_sync_clients_in_many_threads_share_a_server() -> None:
    """The agents wait for each other: they only finish if all of them are running."""
    barrier = threading.Barrier(10)

    def agent(prompt: str) -> str:
        barrier.wait(20)
        return f"together with {prompt}"

    said: list[str | None] = []

    def one(client: openai.OpenAI, name: str) -> None:
        answer = client.chat.completions.create(model="agent", messages=[{"role": "user", "content": name}])
        said.append(answer.choices[0].message.content)

    server = Server(agent)
    with sync_openai(server) as shared, sync_openai(server) as another:
        threads = [
            threading.Thread(target=one, args=(shared if number % 2 else another, f"{number}")) for number in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert sorted(map(str, said)) == [f"together with {number}" for number in range(10)]


@pytest.mark.anyio
@on_asyncio
async def test_the_sync_client_works_in_a_notebook() -> None:
    """In a notebook, the thread's event loop is already running."""
    with sync_openai(Server(GREETERS)) as client:
        answer = client.chat.completions.create(model="async", messages=HI)
    assert answer.choices[0].message.content == "Hello, Bob"


# the transports alone, on every event loop


def http(server: Server, **options: Any) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=AsyncTransport(server), base_url="http://localhost", **options)


@pytest.mark.anyio
async def test_a_plain_http_client_needs_no_sdk() -> None:
    async with http(Server(GREETERS)) as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert (await client.head("/v1/models")).content == b""
        async with client.stream("POST", CHAT, json=ask(model="thread", stream=True)) as answer:
            lines = [line async for line in answer.aiter_lines() if line]
    assert len(lines) == 5
    assert lines[-1] == "data: [DONE]"


@pytest.mark.anyio
@ENDLESS
async def test_leaving_a_stream_stops_the_agent(agent_type: type[Endless]) -> None:
    agent = agent_type("begun")
    server = Server(agent)
    async with http(server) as client, client.stream("POST", CHAT, json=ask(stream=True)) as answer:
        assert answer.status_code == 200
        await soon(agent.waits.is_set)
    assert agent.stopped.is_set()
    await soon(lambda: server.services.live.slots.used == 0)


@pytest.mark.anyio
@ENDLESS
@pytest.mark.parametrize("stream", [False, True])
async def test_cancelling_a_request_stops_the_agent(agent_type: type[Endless], stream: bool) -> None:
    agent = agent_type()
    server = Server(agent)
    async with http(server) as client, anyio.create_task_group() as group:
        group.start_soon(lambda: client.post(CHAT, json=ask(stream=stream)))
        await soon(agent.waits.is_set)
        group.cancel_scope.cancel()
    assert agent.stopped.is_set()
    await soon(lambda: server.services.live.slots.used == 0)


@pytest.mark.anyio
async def test_a_read_timeout_stops_the_agent() -> None:
    agent = Endless()
    async with http(Server(agent), timeout=0.1) as client:
        with pytest.raises(httpx2.ReadTimeout):
            await client.post(CHAT, json=ask())
    assert agent.stopped.is_set()


@pytest.mark.anyio
async def test_cut_answers_raise_and_are_not_taken_for_whole_ones() -> None:
    agent = Endless(*["x" * 100_000] * 10)
    server = Server(agent, deadlines=Deadlines(write=0.05))
    async with http(server) as client, client.stream("POST", CHAT, json=ask(stream=True)) as answer:
        await soon(agent.stopped.is_set)
        with pytest.raises(httpx2.RemoteProtocolError):
            await answer.aread()


@pytest.mark.anyio
async def test_request_bodies_may_be_streams_and_errors_are_answers() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'{"model": "async", '
        yield b'"messages": []}'

    async with http(Server(GREETERS)) as client:
        answer = await client.post(CHAT, content=body())
        assert error_of(answer) == (400, "invalid_request_error", "invalid_request", "messages")
        assert error_of(await client.get("/%C3%A4?q=%20"))[0] == 404
        assert error_of(await client.get("/v1/models", headers={"host": "evil.example"}))[0] == 403


@pytest.mark.parametrize("stream", [False, True])
def test_the_sync_transport_needs_no_sdk(stream: bool) -> None:
    agent = Endless("begun")
    server = Server({**GREETERS, "endless": agent})
    with httpx2.Client(transport=SyncTransport(server), base_url="http://localhost", timeout=10) as client:
        answer = client.post(CHAT, json=ask(model="async", stream=stream))
        assert "Hello, " in answer.text
        with client.stream("POST", CHAT, json=ask(model="endless", stream=True)) as live:
            assert any("begun" in line for line in live.iter_lines())
        assert agent.stopped.is_set()


def test_the_sync_transport_is_as_quick_as_the_agent() -> None:
    """Nothing polls: a hundred answers take far less time than a hundred ticks of a poll would."""
    with httpx2.Client(transport=SyncTransport(Server(GREETERS)), base_url="http://localhost", timeout=10) as client:
        began = time.monotonic()
        for _ in range(100):
            assert client.get("/healthz").status_code == 200
        assert time.monotonic() - began < 5


@pytest.mark.anyio
async def test_agents_see_the_context_variables_of_the_request() -> None:
    """Tracing and logging libraries depend on them."""
    trace: contextvars.ContextVar[str] = contextvars.ContextVar("trace", default="lost")

    async def asynchronous(prompt: str) -> str:
        return trace.get()

    def in_thread(context: RunContext) -> str:
        return trace.get()

    trace.set("kept")
    async with http(Server({"async": asynchronous, "thread": in_thread})) as client:
        for model in ("async", "thread"):
            answer = await client.post(CHAT, json=ask(model=model))
            assert answer.json()["choices"][0]["message"]["content"] == "kept"
