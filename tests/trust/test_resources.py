"""Clients and agents that use too much, or take too long. Numbers refer to the list of faults."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import pytest

from openai_compat import (
    AgentError,
    AgentRequest,
    Deadlines,
    Finished,
    Limits,
    MediaDelta,
    ReasoningDelta,
    RunContext,
    Server,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
)
from openai_compat.aio.background import _running as running_tasks
from openai_compat.http import HttpRequest, ResponseBody, ResponseStart
from openai_compat_adapters import serve
from tests.transports import uvicorn_socket
from tests.trust.probe import (
    CHAT,
    JSON,
    Counting,
    Endless,
    EndlessThread,
    ask,
    error_of,
    eventually,
    frames,
    in_process,
    soon,
)
from tests.trust.wire import RawClient, open_files, resident

pytestmark = pytest.mark.anyio
TOO_LARGE = (413, "invalid_request_error", "request_too_large", None)


# 107-109: the body


def test_a_body_announced_as_too_long_is_refused_before_it_is_sent() -> None:
    """107"""
    agent = Counting()
    with uvicorn_socket(Server(agent, limits=Limits(body=1_000))) as url, RawClient(url) as client:
        client.head("Content-Length: 1001")
        status, body = client.answer()
        assert (status, body["error"]["code"]) == (413, "request_too_large")
        assert client.read_to_end() == b""  # and the connection is closed: the bytes that follow are not a request
    assert agent.runs == 0


async def test_an_endless_chunked_body_is_not_read_much_further_than_the_limit() -> None:
    """108"""
    limit, read, sent = 100_000, 0, list[ResponseStart | ResponseBody]()

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 16_384
            yield b" " * 16_384

    async def send(message: ResponseStart | ResponseBody) -> None:
        sent.append(message)

    request = HttpRequest("POST", CHAT, "", [(b"host", b"localhost")], body())
    await Server(Counting(), limits=Limits(body=limit)).handle(request, send)
    assert isinstance(sent[0], ResponseStart)
    assert sent[0].status == 413
    assert read < 4 * limit


def test_an_endless_chunked_body_is_refused_over_a_socket() -> None:
    """108: the client gets the answer, or is cut off; it can never send ten times the limit"""
    agent = Counting()
    with uvicorn_socket(Server(agent, limits=Limits(body=100_000))) as url, RawClient(url) as client:
        client.head("Transfer-Encoding: chunked", "Content-Type: application/json")
        with pytest.raises((ConnectionError, TimeoutError)):
            client.socket.settimeout(5)
            for _ in range(10_000):
                client.chunk(b" " * 16_384)
    assert agent.runs == 0


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_just_within_the_limit_is_taken(chunked: bool) -> None:
    """109"""
    body = json.dumps(ask()).encode()

    async def pieces(data: bytes) -> AsyncIterator[bytes]:
        for at in range(0, len(data), 10):
            yield data[at : at + 10]

    async with in_process(Server(Counting(), limits=Limits(body=len(body)))) as client:
        for data in (body, body + b" "):
            answer = await client.post(CHAT, content=pieces(data) if chunked else data, headers=JSON)
            assert answer.status_code == 200 if data is body else error_of(answer) == TOO_LARGE


def test_a_body_that_stops_coming_is_given_up() -> None:
    """19: and no agent runs"""
    agent = Counting()
    with uvicorn_socket(Server(agent, deadlines=Deadlines(body=0.3))) as url, RawClient(url) as client:
        client.head("Content-Length: 100")
        client.socket.sendall(b'{"model"')
        status, body = client.answer()
        assert (status, body["error"]["code"]) == (408, "request_timeout")
    assert agent.runs == 0


# 110-111: slow readers


class Firehose:
    """Says 262 MB in large pieces, and counts how much the server has consumed."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0
        self.stopped = threading.Event()

    async def __call__(self, request: AgentRequest) -> AsyncIterator[Any]:
        try:
            while self.taken < 262_000_000:
                self.taken += self.size
                yield self.piece()
        finally:
            self.stopped.set()

    def piece(self) -> Any:
        return "x" * self.size


class EventFirehose(Firehose):
    def piece(self) -> Any:
        return TextDelta("x" * self.size)


class MediaFirehose(Firehose):
    def piece(self) -> Any:
        return MediaDelta(b"x" * self.size, "image/png")


class ThreadFirehose(Firehose):
    def __call__(self, context: RunContext) -> Iterator[Any]:
        try:
            while self.taken < 262_000_000:
                self.taken += self.size
                yield self.piece()
        finally:
            self.stopped.set()


@pytest.mark.parametrize("size", [20, 65_536, 2_000_000])
@pytest.mark.parametrize("kind", [Firehose, EventFirehose, MediaFirehose, ThreadFirehose])
def test_a_client_that_does_not_read_holds_the_agent_up_and_is_cut_off(kind: type[Firehose], size: int) -> None:
    """110, 111: in any form, little is produced in advance; after the write deadline nothing of the run is left"""
    agent, before = kind(size), resident()
    server = Server(agent, deadlines=Deadlines(write=0.2))
    with uvicorn_socket(server) as url, RawClient(url) as client:
        client.chat(stream=True)
        assert agent.stopped.wait(20)
        assert agent.taken < 24_000_000
        assert resident() - before < 40_000_000
        eventually(lambda: server.services.live.slots.used == 0)
        received = client.read_to_end()
    assert b"[DONE]" not in received
    assert not received.endswith(b"0\r\n\r\n")  # cut off, not ended


# 112-114: agents that take too long


@pytest.mark.parametrize("agent_type", [Endless, EndlessThread])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_silent_agent_is_stopped_at_the_deadline(agent_type: type[Endless], stream: bool) -> None:
    """112: a stream that has not begun gets a 504, too"""
    agent = agent_type()
    server = Server(agent, deadlines=Deadlines(request=0.2, head=5))
    async with in_process(server) as client:
        answer = await client.post(CHAT, json=ask(stream=stream))
    assert error_of(answer) == (504, "server_error", "timeout", None)
    assert answer.headers["x-should-retry"] == "false"
    assert agent.stopped.is_set()
    assert server.services.live.slots.used == 0


async def test_a_silent_agent_whose_stream_has_begun_gets_an_error_event() -> None:
    """113"""
    agent = Endless("so far")
    async with in_process(Server(agent, deadlines=Deadlines(request=0.2))) as client:
        answer = await client.post(CHAT, json=ask(stream=True))
    events = frames(answer.content)
    assert [list(event["choices"][0]["delta"]) for event in events[:-1]] == [
        ["role", "content", "refusal"],
        ["content"],
    ]
    assert (events[-1]["error"]["type"], events[-1]["error"]["code"]) == ("agent_error", "timeout")
    assert agent.stopped.is_set()


@pytest.mark.parametrize(
    "pause", [partial(anyio.sleep, 0.001), anyio.lowlevel.checkpoint, None], ids=["sleeping", "yielding", "never"]
)
async def test_a_chatty_agent_is_stopped_at_the_deadline_too(pause: Callable[[], Awaitable[None]] | None) -> None:
    """114: even one that never awaits anything"""

    async def chatty(prompt: str) -> AsyncIterator[str]:
        while True:
            yield "still here "
            if pause is not None:
                await pause()

    server = Server(chatty, deadlines=Deadlines(request=0.1))
    async with in_process(server) as client:
        answer = await client.post(CHAT, json=ask(stream=True))
    assert b"[DONE]" not in answer.content
    assert b'"finish_reason":"' not in answer.content
    last = answer.content[answer.content.rindex(b"data: ") :]
    assert frames(last)[0]["error"]["code"] == "timeout"
    assert server.services.live.slots.used == 0


async def test_an_agent_that_goes_on_after_its_end_without_ever_waiting_is_stopped() -> None:
    """114: this loop must not block the event loop"""

    async def agent(request: AgentRequest) -> AsyncIterator[Any]:
        yield "all"
        yield Finished()
        while True:
            yield "more"

    server = Server(agent)
    async with in_process(server) as client:
        for stream in (False, True):
            with anyio.fail_after(5):
                answer = await client.post(CHAT, json=ask(stream=stream))
            assert "all" in answer.text
            assert "more" not in answer.text
    assert server.services.live.slots.used == 0


# 115-116: slots


class Gauge:
    """Counts concurrent runs, which end when the gate opens."""

    def __init__(self) -> None:
        self.running = self.most = self.runs = 0
        self.gate = anyio.Event()

    async def __call__(self, request: AgentRequest) -> str:
        self.runs += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        return "ok"


async def test_more_turns_than_slots_are_refused_at_once() -> None:
    """115"""
    agent, answers = Gauge(), list[httpx2.Response]()
    async with in_process(Server(agent, limits=Limits(slots=4))) as client:

        async def one() -> None:
            answers.append(await client.post(CHAT, json=ask()))

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                for _ in range(10):
                    group.start_soon(one)
                await soon(lambda: len(answers) == 6, 1.5)
                refused = list(answers)
                agent.gate.set()
    assert {error_of(answer) for answer in refused} == {(429, "rate_limit_error", "rate_limit_exceeded", None)}
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert [answer.status_code for answer in answers[6:]] == [200] * 4
    assert (agent.most, agent.runs) == (4, 4)


async def test_choices_take_a_slot_each_all_or_none() -> None:
    """115"""
    agent = Gauge()
    agent.gate.set()
    server = Server(agent, limits=Limits(slots=3))
    async with in_process(server) as client:
        assert (await client.post(CHAT, json=ask(n=3))).status_code == 200
        assert error_of(await client.post(CHAT, json=ask(n=4)))[0] == 429
    assert agent.runs == 3
    assert server.services.live.slots.used == 0


async def test_slots_come_back_from_every_kind_of_end() -> None:
    """116: errors, timeouts, refusals and disconnects, three times each, with a single slot"""

    async def agent(prompt: str) -> AsyncIterator[str]:
        if prompt == "fail at once":
            raise AgentError("no")
        yield "begun"
        if prompt == "fail later":
            raise RuntimeError("no")
        if prompt == "wait":
            await anyio.sleep_forever()

    server = Server(agent, limits=Limits(slots=1), deadlines=Deadlines(request=0.5))
    async with in_process(server) as client:
        for prompt, stream in [(p, s) for p in ("fail at once", "fail later", "fine") for s in (False, True)] * 3:
            answer = await client.post(CHAT, json=ask(messages=[{"role": "user", "content": prompt}], stream=stream))
            assert answer.status_code in (200, 500)
            assert server.services.live.slots.used == 0
        for _ in range(3):
            body = ask(messages=[{"role": "user", "content": "wait"}], stream=True)
            async with client.stream("POST", CHAT, json=body) as answer:
                assert answer.status_code == 200
                assert server.services.live.slots.used == 1
            assert server.services.live.slots.used == 0
        assert error_of(await client.post(CHAT, json=ask(temperature=9)))[0] == 400
        assert (await client.post(CHAT, json=ask())).status_code == 200


# 117-119: nothing is left behind


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_fifteen_hundred_requests_leave_nothing_behind() -> None:
    """117"""

    def in_thread(prompt: str) -> str:
        return "from a thread"

    server = Server({"agent": Counting(), "thread": in_thread})
    async with in_process(server) as client:

        async def five() -> None:
            await client.post(CHAT, json=ask())
            await client.post(CHAT, json=ask(stream=True))
            await client.post(CHAT, json=ask(model="thread"))
            await client.post(CHAT, json=ask(temperature=9))
            await client.get("/v1/models")

        for _ in range(60):
            await five()
        gc.collect()
        memory, files, tasks = resident(), open_files(), asyncio.all_tasks()
        for _ in range(240):
            await five()
        gc.collect()
        assert resident() - memory < 8_000_000
        assert open_files() == files
    assert asyncio.all_tasks() == tasks
    await soon(lambda: not [t for t in threading.enumerate() if t.name == "openai-compat agent"])
    assert server.services.live.slots.used == 0


def test_three_hundred_streams_left_early_leave_nothing_behind() -> None:
    """118"""
    server = Server(Endless("begun"), limits=Limits(slots=400))
    with uvicorn_socket(server) as url:
        with RawClient(url) as first:
            first.chat(stream=True)
            first.read_until(b"begun")
        eventually(lambda: server.services.live.slots.used == 0)
        files, threads, memory = open_files(), threading.active_count(), resident()
        tasks = set(running_tasks)
        for _ in range(10):
            clients = [RawClient(url) for _ in range(30)]
            for client in clients:
                client.chat(stream=True)
            for number, client in enumerate(clients):
                client.read_until(b"begun")
                client.reset() if number % 2 else client.socket.close()
        eventually(lambda: server.services.live.slots.used == 0)
        eventually(lambda: open_files() == files)
        eventually(lambda: threading.active_count() <= threads)
        eventually(lambda: tasks >= running_tasks)
        gc.collect()
        assert resident() - memory < 20_000_000
        assert httpx2.get(f"{url}/v1/models").status_code == 200


def test_four_hundred_idle_connections_are_no_trouble() -> None:
    """119"""
    with uvicorn_socket(Server(Counting())) as url:
        assert httpx2.get(f"{url}/v1/models").status_code == 200
        files = open_files()
        clients = [RawClient(url) for _ in range(400)]
        began = time.monotonic()
        assert httpx2.post(f"{url}{CHAT}", json=ask()).status_code == 200
        assert time.monotonic() - began < 2
        for client in clients:
            client.socket.close()
        eventually(lambda: open_files() <= files)


# 121-122: agents that block, and endless answers


def test_a_plain_function_that_blocks_holds_nobody_else_up() -> None:
    """121"""
    blocked, go = threading.Event(), threading.Event()

    def agent(prompt: str) -> str:
        blocked.set()
        assert go.wait(20)
        return "at last"

    with uvicorn_socket(Server(agent)) as url, httpx2.Client(base_url=url, timeout=20) as client, RawClient(url) as raw:
        raw.chat()
        assert blocked.wait(10)
        began = time.monotonic()
        assert client.get("/v1/models").status_code == 200
        assert time.monotonic() - began < 1
        go.set()
        status, body = raw.answer()
    assert (status, body["choices"][0]["message"]["content"]) == (200, "at last")


def text() -> Any:
    return "x" * 1_000


def text_event() -> Any:
    return TextDelta("x" * 1_000)


def reasoning() -> Any:
    return ReasoningDelta("x" * 1_000)


def media() -> Any:
    return MediaDelta(b"x" * 1_000, "image/png")


@pytest.mark.parametrize("make", [text, text_event, reasoning, media])
@pytest.mark.parametrize("fields", [{}, {"stop": ["y"]}], ids=["plain", "stop"])
async def test_a_plain_answer_without_end_fails_at_a_limit(make: Callable[[], Any], fields: dict[str, Any]) -> None:
    """122, whatever the events are"""

    async def agent(request: AgentRequest) -> AsyncIterator[Any]:
        while True:
            yield make()

    server = Server(agent, limits=Limits(answer=100_000))
    async with in_process(server) as client:
        with anyio.fail_after(10):
            answer = await client.post(CHAT, json=ask(**fields))
    assert error_of(answer) == (502, "server_error", "answer_too_large", None)
    assert answer.headers["x-should-retry"] == "false"
    assert server.services.live.slots.used == 0


async def test_tool_arguments_without_end_fail_at_the_same_limit() -> None:
    """122"""

    async def agent(request: AgentRequest) -> AsyncIterator[Any]:
        yield ToolCallStarted("call_1", "f")
        while True:
            yield ToolCallDelta("call_1", "x" * 1_000)

    async with in_process(Server(agent, limits=Limits(answer=100_000))) as client:
        tools = [{"type": "function", "function": {"name": "f"}}]
        with anyio.fail_after(10):
            answer = await client.post(CHAT, json=ask(tools=tools))
    assert error_of(answer) == (502, "server_error", "answer_too_large", None)


async def test_max_tokens_ends_an_answer_without_end() -> None:
    """122"""

    async def agent(request: AgentRequest) -> AsyncIterator[str]:
        while True:
            yield "word "

    async with in_process(Server(agent)) as client:
        for stream in (False, True):
            with anyio.fail_after(5):
                answer = await client.post(CHAT, json=ask(max_tokens=5, stream=stream))
            assert '"finish_reason":"length"' in answer.text


def test_the_command_lines_server_delays_no_small_packets() -> None:
    """Nagle's algorithm delayed the second write of every answer by 40 ms; connections inherit TCP_NODELAY."""
    with serve.listen(Server(Counting()), "127.0.0.1", 0) as listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
