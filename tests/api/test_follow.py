"""Streams that are followed, in the process that makes them or in another one, while the agent is silent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import openai._streaming as sdk
import pytest

from openai_compat import Deadlines, Disconnect, MemoryStore, Server
from openai_compat.http import HttpRequest
from tests.loops import anyio_backend as anyio_backend
from tests.requirements import requirement
from tests.support.exchanges import CHAT, Recorder, ask, request
from tests.support.stepping import eventually

pytestmark = pytest.mark.anyio

DEADLINES = Deadlines(head=0.01, heartbeat=0.01)
RESPONSES = "/v1/responses"


class Waits:
    """Waits in the middle."""

    def __init__(self) -> None:
        self.go_on = anyio.Event()

    async def __call__(self, prompt: str) -> AsyncIterator[str]:
        yield "one "
        await self.go_on.wait()
        yield "two"


def read(data: bytes) -> list[Any]:
    """The events that openai-python makes of a stream."""
    return [event.json() for event in sdk.SSEDecoder().iter_bytes(iter([data])) if event.data != "[DONE]"]


def first_id(sent: Recorder) -> bytes:
    return next(line for line in sent.data.split(b"\n") if line.startswith(b"id: ")).removeprefix(b"id: ")


def follow_chat(first: Recorder) -> HttpRequest:
    return request(CHAT, ask(), (b"last-event-id", first_id(first)))


def follow_response(first: Recorder) -> HttpRequest:
    identifier = read(first.data.rsplit(b"\n\n", 1)[0] + b"\n\n")[0]["response"]["id"]
    return request(f"{RESPONSES}/{identifier}", None, method="GET", query="stream=true")


@requirement("stream.silence")
@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "in another process"])
@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_a_followed_stream_has_comments_that_break_no_client(api: str, elsewhere: bool) -> None:
    agent, store = Waits(), MemoryStore()
    settings: Any = {"disconnect": Disconnect("finish"), "deadlines": DEADLINES, "store": store}
    maker = Server(agent, **settings)
    follower = Server(agent, **settings) if elsewhere else maker
    if api == "chat":
        asked, follow = request(CHAT, ask(stream=True)), follow_chat
    else:
        asked, follow = request(RESPONSES, {"model": "agent", "input": "hi", "stream": True}), follow_response
    first, followed = Recorder(), Recorder()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(maker.handle, asked, first)
            await eventually(lambda: b"one " in first.data)
            group.start_soon(follower.handle, follow(first), followed)
            await eventually(lambda: followed.data.count(b": keep-alive") > 2)
            agent.go_on.set()
    assert followed.complete
    for sent in (first, followed):
        assert "two" in str(read(sent.data))
        assert sent.data.count(b": keep-alive") > 2
        if api == "chat":
            assert b": keep-alive\n\n" not in sent.data[sent.data.index(b"id: ") :]


@requirement("stream.silence")
async def test_a_background_response_has_comments_where_it_is_silent() -> None:
    agent, sent = Waits(), Recorder()
    server = Server(agent, deadlines=DEADLINES)
    asked = request(RESPONSES, {"model": "agent", "input": "hi", "background": True, "stream": True})
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(server.handle, asked, sent)
            await eventually(lambda: sent.data.count(b": keep-alive") > 2)
            agent.go_on.set()
    assert read(sent.data)[-1]["type"] == "response.completed"
