"""Tests of an agent through a real openai client, without a socket.

Run them:   pytest in_process_test.py
"""

import openai
import pytest
from hello import agent

from openai_compat import AgentError, Server
from openai_compat_adapters.client import async_openai, sync_openai

HELLO = {"model": "hello", "messages": [{"role": "user", "content": "Ada"}]}


def test_it_greets():
    with sync_openai(Server({"hello": agent})) as client:
        answer = client.chat.completions.create(**HELLO)

    assert answer.choices[0].message.content == "Hello, Ada"


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_it_streams():
    async with async_openai(Server({"hello": agent})) as client:
        stream = await client.chat.completions.create(**HELLO, stream=True)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]

    assert "".join(pieces) == "Hello, Ada"


def test_a_closed_calendar_is_the_clients_to_see():
    def calendar(prompt: str):
        raise AgentError("The calendar is closed today.", status=409, code="calendar_closed")

    with sync_openai(Server(calendar), max_retries=0) as client, pytest.raises(openai.ConflictError) as caught:
        client.chat.completions.create(model="agent", messages=[{"role": "user", "content": "Book Monday"}])

    assert caught.value.code == "calendar_closed"
