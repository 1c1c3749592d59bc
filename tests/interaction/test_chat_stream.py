"""Streamed chat completions."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator

import anyio.to_thread
import pytest

from .conftest import Connect
from .requirements import requirement

pytestmark = pytest.mark.anyio
HELLO = [{"role": "user", "content": "Bob"}]


async def greeter(prompt: str) -> AsyncIterator[str]:
    yield "Hello, "
    yield prompt


@requirement("chat.stream")
async def test_a_stream_says_the_role_once_and_first_and_ends_with_one_finish_reason(connect: Connect) -> None:
    async with connect({"greeter": greeter}) as client:
        stream = await client.chat.completions.create(model="greeter", messages=HELLO, stream=True)
        chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert [delta.role for delta in deltas] == ["assistant", None, None, None]
    assert [delta.content for delta in deltas] == [None, "Hello, ", "Bob", None]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, None, "stop"]
    assert len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}) == 1


@requirement("chat.plain")
async def test_a_plain_answer_says_what_the_stream_says(connect: Connect) -> None:
    async with connect({"greeter": greeter}) as client:
        answer = await client.chat.completions.create(model="greeter", messages=HELLO)
    assert answer.choices[0].message.content == "Hello, Bob"
    assert answer.choices[0].finish_reason == "stop"


@requirement("chat.stream.live")
async def test_a_piece_arrives_before_the_agent_makes_the_next(connect: Connect) -> None:
    go = threading.Event()  # the agent may run on another thread's event loop

    async def patient(prompt: str) -> AsyncIterator[str]:
        yield "first"
        await anyio.to_thread.run_sync(go.wait, 10)
        yield "second"

    async with connect(patient) as client:
        async for chunk in await client.chat.completions.create(model="agent", messages=HELLO, stream=True):
            if chunk.choices[0].delta.content == "first":
                go.set()
    assert go.is_set()
