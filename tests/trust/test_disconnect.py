"""After a disconnect the agent is stopped, its clean-up runs, and nothing is left. Numbers refer to the list of faults."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import pytest

from openai_compat import AgentRequest, Deadlines, Limits, RunContext, Server
from openai_compat.http import HttpRequest, ResponseBody, ResponseStart
from openai_compat_adapters.starlette import endpoint
from tests.transports import LOOPS, Loop, uvicorn_socket
from tests.trust.probe import CHAT, Counting, Endless, EndlessThread, ask, eventually, soon
from tests.trust.wire import RawClient

pytestmark = pytest.mark.anyio
LEAVE: list[Callable[[RawClient], None]] = [lambda client: client.socket.close(), RawClient.reset]


def settled(server: Server, url: str) -> None:
    """Wait until no run is left, and check that the next request is answered correctly."""
    eventually(lambda: server.services.live.slots.used == 0, 3)
    assert httpx2.get(f"{url}/readyz").json() == {"status": "ready", "running": 0, "store": "ok"}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("leave", LEAVE, ids=["FIN", "RST"])
@pytest.mark.parametrize("agent_type", [Endless, EndlessThread])
@pytest.mark.parametrize(
    ("pieces", "stream"), [(("one ", "two "), True), ((), True), (("one ",), False), ((), False)],
    ids=["between chunks", "before the first chunk", "plain, begun", "plain"],
)  # fmt: skip
def test_an_agent_is_stopped_when_its_client_leaves(
    agent_type: type[Endless], pieces: tuple[str, ...], stream: bool, leave: Callable[[RawClient], None], loop: Loop
) -> None:
    """138, and 145 for agents in threads: within 2 s, including clean-up"""
    agent = agent_type(*pieces)
    server = Server(agent)
    with uvicorn_socket(server, loop) as url:
        client = RawClient(url)
        client.chat(stream=stream)
        if stream and pieces:
            client.read_until(b"two ")
        assert agent.waits.wait(10)
        leave(client)
        assert agent.stopped.wait(2)
        settled(server, url)


@pytest.mark.parametrize("leave", LEAVE, ids=["FIN", "RST"])
def test_an_agent_is_stopped_when_its_client_leaves_in_the_middle_of_the_flow(
    leave: Callable[[RawClient], None],
) -> None:
    """138: while pieces are being sent"""
    stopped = threading.Event()

    async def talkative(prompt: str) -> AsyncIterator[str]:
        try:
            while True:
                yield "word "
                await anyio.lowlevel.checkpoint()
        finally:
            stopped.set()

    server = Server(talkative)
    with uvicorn_socket(server) as url:
        client = RawClient(url)
        client.chat(stream=True)
        client.read_until(b"word")
        leave(client)
        assert stopped.wait(2)
        settled(server, url)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_only_shuts_its_sending_side_gets_a_whole_answer_or_none(stream: bool) -> None:
    """139"""
    finished = threading.Event()

    async def agent(prompt: str) -> AsyncIterator[str]:
        try:
            for _ in range(20):
                yield "word "
                await anyio.lowlevel.checkpoint()
        finally:
            finished.set()

    server = Server(agent)
    with uvicorn_socket(server) as url, RawClient(url) as client:
        client.chat(stream=stream)
        client.socket.shutdown(1)
        received = client.read_to_end()
        assert finished.wait(2)
        assert (b"[DONE]" in received) == (received.count(b"word ") == 20 and stream)
        settled(server, url)


def test_no_agent_starts_for_a_client_that_leaves_while_it_sends() -> None:
    """140"""
    agent = Counting()
    server = Server(agent)
    with uvicorn_socket(server) as url:
        for leave in LEAVE:
            client = RawClient(url)
            client.head("Content-Type: application/json", "Content-Length: 1000")
            client.socket.sendall(b'{"model": "agent", ')
            leave(client)
            client = RawClient(url)
            client.head("Content-Type: application/json", "Transfer-Encoding: chunked")
            client.chunk(b'{"model": "agent", "messages": [{"role": "user", "content": "hi"}]}')
            leave(client)
        settled(server, url)
    assert agent.runs == 0


def test_an_agent_that_swallows_its_cancellation_hurts_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    """141: it keeps its slot until it ends, which is logged; all others are served"""
    swallowed, go = threading.Event(), threading.Event()

    async def stubborn(prompt: str) -> AsyncIterator[str]:
        if prompt == "hi":
            yield "begun"
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                swallowed.set()
            while not go.is_set():
                await anyio.sleep(0.005)
        yield "ended"

    server = Server(stubborn, deadlines=Deadlines(grace=0.1))
    with uvicorn_socket(server) as url:
        with RawClient(url) as client:
            client.chat(stream=True)
            client.read_until(b"begun")
        assert swallowed.wait(2)
        eventually(lambda: "still runs" in caplog.text)
        other = ask(messages=[{"role": "user", "content": "somebody else"}])
        assert httpx2.post(f"{url}{CHAT}", json=other).json()["choices"][0]["message"]["content"] == "ended"
        eventually(lambda: server.services.live.slots.used == 1)
        go.set()
        settled(server, url)


@pytest.mark.parametrize("stream", [False, True])
def test_clean_up_that_fails_is_logged_and_hurts_nobody(stream: bool, caplog: pytest.LogCaptureFixture) -> None:
    """142"""
    caplog.set_level(logging.INFO, logger="openai_compat")
    waits = threading.Event()

    async def agent(prompt: str) -> AsyncIterator[str]:
        try:
            yield "begun"
            waits.set()
            await anyio.sleep_forever()
        finally:
            raise RuntimeError("the clean-up broke")

    server = Server(agent)
    with uvicorn_socket(server) as url:
        with RawClient(url) as client:
            client.chat(stream=stream)
            assert waits.wait(10)
        settled(server, url)
        eventually(lambda: "the clean-up broke" in caplog.text)
    assert [record for record in caplog.records if record.name == "asyncio"] == []


def test_when_everybody_leaves_at_once_all_slots_are_free() -> None:
    """143"""
    agent = Endless("begun")
    server = Server(agent, limits=Limits(slots=40))
    with uvicorn_socket(server) as url:
        for _ in range(2):
            clients = [RawClient(url) for _ in range(40)]
            for client in clients:
                client.chat(stream=True)
            for client in clients:
                client.read_until(b"begun")
            assert server.services.live.slots.used == 40
            for client in clients:
                client.socket.close()
            settled(server, url)
    assert agent.runs == 80


def test_clients_that_leave_around_the_last_chunk_leave_nothing() -> None:
    """144: 60 of them, at slightly different points"""

    async def agent(prompt: str) -> AsyncIterator[str]:
        for _ in range(5):
            yield "word "
            await anyio.lowlevel.checkpoint()

    server = Server(agent)
    with uvicorn_socket(server) as url:
        marks = [b"word", b'finish_reason":"stop', b"[DONE]", b"0\r\n\r\n", b"HTTP/1.1", b"assistant"]
        for number in range(60):
            client = RawClient(url)
            client.chat(stream=True)
            client.read_until(marks[number % len(marks)])
            LEAVE[number // len(marks) % 2](client)
        settled(server, url)


def test_the_log_says_that_the_client_left(caplog: pytest.LogCaptureFixture) -> None:
    """146"""
    caplog.set_level(logging.INFO, logger="openai_compat")
    agent = Endless("begun")
    server = Server(agent)
    with uvicorn_socket(server) as url:
        with RawClient(url) as client:
            client.chat(stream=True)
            client.read_until(b"begun")
        settled(server, url)
    lines = [record.getMessage() for record in caplog.records if record.name == "openai_compat"]
    assert [line.endswith("client left") for line in lines if CHAT in line] == [True]


def test_a_connection_is_used_again_after_a_refused_and_after_a_failed_request() -> None:
    """176: errors are ordinary answers, and the next request on the connection succeeds"""
    agent = Counting()
    with uvicorn_socket(Server(agent)) as url, RawClient(url) as client:
        for fields, status in (({"n": 0}, 400), ({}, 200), ({"model": "other"}, 404), ({}, 200)):
            client.chat(**fields)
            assert client.answer()[0] == status
    assert agent.runs == 2


# 148: disconnects at every step of the event loop


class Flag:
    """Records what the agents below went through."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0

    async def generator(self, request: AgentRequest) -> AsyncIterator[str]:
        self.begun += 1
        try:
            for _ in range(3):
                yield "word "
                await anyio.lowlevel.checkpoint()
        finally:
            self.ended += 1

    async def coroutine(self, request: AgentRequest) -> str:
        self.begun += 1
        try:
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
        finally:
            self.ended += 1
        return "word"

    def thread(self, context: RunContext) -> Iterator[str]:
        self.begun += 1
        try:
            for _ in range(3):
                yield "word "
        finally:
            self.ended += 1


KINDS = ("generator", "coroutine", "thread")
MOST_STEPS = 500


async def steps(number: int) -> None:
    for _ in range(number):
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_may_be_cancelled_at_every_step(kind: str, stream: bool) -> None:
    """148: at whichever `await` the cancellation arrives, the agent has ended and its slot is free"""
    flag = Flag()
    server = Server(getattr(flag, kind), limits=Limits(slots=1))

    async def cancelled_after(number: int) -> bool:
        answered = False

        async def body() -> AsyncIterator[bytes]:
            yield json.dumps(ask(stream=stream)).encode()

        async def send(message: ResponseStart | ResponseBody) -> None:
            await anyio.lowlevel.checkpoint()

        async def handle() -> None:
            nonlocal answered
            await server.handle(HttpRequest("POST", CHAT, "", [(b"host", b"localhost")], body()), send)
            answered = True

        async with anyio.create_task_group() as group:
            group.start_soon(handle)
            await steps(number)
            group.cancel_scope.cancel()
        await soon(lambda: server.services.live.slots.used == 0, 3)
        assert flag.begun == flag.ended
        return answered

    for number in range(MOST_STEPS):
        if await cancelled_after(number):
            break
    assert 2 < number < MOST_STEPS - 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_may_leave_at_every_step(kind: str, stream: bool) -> None:
    """148: the same for the ASGI disconnect message, from the middle of the upload to the last byte"""
    flag = Flag()
    server = Server(getattr(flag, kind), limits=Limits(slots=1))
    app = endpoint(server)
    data = json.dumps(ask(stream=stream)).encode()
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": CHAT, "headers": [(b"host", b"localhost")]}

    async def left_after(number: int) -> bool:
        gone, sent = anyio.Event(), list[Any]()
        upload = [
            {"type": "http.request", "body": data[10:]},
            {"type": "http.request", "body": data[:10], "more_body": True},
        ]

        async def receive() -> Any:
            await anyio.lowlevel.checkpoint()
            if upload and not gone.is_set():
                return upload.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            await anyio.lowlevel.checkpoint()
            sent.append(message)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(app, scope, receive, send)
                await steps(number)
                gone.set()
        await soon(lambda: server.services.live.slots.used == 0, 3)
        assert flag.begun == flag.ended
        return bool(sent) and sent[-1].get("more_body") is False

    for number in range(MOST_STEPS):
        if await left_after(number):
            break
    assert 2 < number < MOST_STEPS - 1
