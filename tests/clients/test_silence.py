"""OpenAI's own clients and an agent that is silent in mid-stream for several heartbeats.

Once an event had an id, openai-python reads each blank line as the end of an event, and an event without data breaks it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import openai
import pytest

from openai_compat import Conversations, Deadlines, Disconnect, Server
from openai_compat_adapters.starlette import create_app
from tests.clients.programs import HERE, need_node_packages
from tests.requirements import requirement
from tests.transports import asgi_socket

POLICIES = [Disconnect("cancel"), Disconnect("finish"), Disconnect("detach")]
BEATS = 3
policies = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.then)


class Silent:
    """Says one part, and each further one after the server has sent BEATS heartbeat comments."""

    def __init__(self) -> None:
        self._beats = 0
        self._heard = anyio.Event()

    async def __call__(self, prompt: str) -> AsyncIterator[str]:
        yield "one "
        self._beats, self._heard = 0, anyio.Event()
        await self._heard.wait()
        yield "two"
        self._beats, self._heard = 0, anyio.Event()
        await self._heard.wait()
        yield " three"

    def watched(self, app: Any) -> Any:
        """The application, wrapped so that this agent counts the comments that are sent."""

        async def application(scope: Any, receive: Any, send: Any) -> None:
            async def counting(message: Any) -> None:
                await send(message)
                self._beats += message.get("body", b"").count(b": keep-alive")
                if self._beats >= BEATS:
                    self._heard.set()

            await app(scope, receive, counting)

        return application


@contextmanager
def serving(policy: Disconnect, **settings: Any) -> Iterator[str]:
    agent = Silent()
    deadlines = Deadlines(head=0.02, heartbeat=0.02)
    server = Server(agent, disconnect=policy, deadlines=deadlines, **settings)
    with asgi_socket(agent.watched(create_app(server))) as url:
        yield f"{url}/v1"


def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="sk-any", max_retries=0, timeout=30)


def chat(sdk: openai.OpenAI, **options: Any) -> str:
    messages: Any = [{"role": "user", "content": "hi"}]
    stream = sdk.chat.completions.create(model="agent", messages=messages, stream=True, **options)
    return "".join([chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices])


def chat_helper(sdk: openai.OpenAI) -> str:
    with sdk.chat.completions.stream(model="agent", messages=[{"role": "user", "content": "hi"}]) as stream:
        return str(stream.get_final_completion().choices[0].message.content)


def responses(sdk: openai.OpenAI) -> str:
    stream = sdk.responses.create(model="agent", input="hi", stream=True)
    return "".join([event.delta for event in stream if event.type == "response.output_text.delta"])


def responses_followed(sdk: openai.OpenAI) -> str:
    """A background response, followed by a second request from its first event."""
    made = sdk.responses.create(model="agent", input="hi", background=True)
    stream = sdk.responses.retrieve(made.id, stream=True)
    return "".join([event.delta for event in stream if event.type == "response.output_text.delta"])


def responses_background(sdk: openai.OpenAI) -> str:
    stream = sdk.responses.create(model="agent", input="hi", background=True, stream=True)
    return "".join([event.delta for event in stream if event.type == "response.output_text.delta"])


READERS = [chat, chat_helper, responses, responses_followed, responses_background]


@requirement("stream.silence")
@policies
@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_the_plain_client_reads_over_a_silence(policy: Disconnect, read: Callable[[openai.OpenAI], str]) -> None:
    with serving(policy) as url:
        assert read(client(url)) == "one two three"


@requirement("stream.silence")
@policies
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_asynchronous_client_reads_over_a_silence(policy: Disconnect, anyio_backend: str) -> None:
    with serving(policy, conversations=Conversations()) as url:
        async with openai.AsyncOpenAI(base_url=url, api_key="sk-any", max_retries=0, timeout=30) as sdk:
            text = ""
            messages: Any = [{"role": "user", "content": "hi"}]
            named = {"x-conversation-id": "c"}
            async for chunk in await sdk.chat.completions.create(
                model="agent", messages=messages, stream=True, extra_headers=named
            ):
                text += chunk.choices[0].delta.content or ""
            assert text == "one two three"
            text = ""
            async for event in await sdk.responses.create(model="agent", input="hi", stream=True):
                text += event.delta if event.type == "response.output_text.delta" else ""
            assert text == "one two three"


@requirement("stream.silence")
@pytest.mark.parametrize("policy", POLICIES[1:], ids=lambda policy: policy.then)
def test_a_stream_that_is_taken_up_again_is_read_over_a_silence(policy: Disconnect) -> None:
    with serving(policy) as url:
        sdk, messages = client(url), [{"role": "user", "content": "hi"}]
        raw = sdk.chat.completions.with_raw_response.create
        left = raw(model="agent", messages=messages, stream=True)
        seen = next(line for line in left.http_response.iter_lines() if line.startswith("id: "))
        left.http_response.close()
        taken_up = chat(sdk, extra_headers={"Last-Event-ID": seen.removeprefix("id: ")})
    assert "one two three".endswith(taken_up)
    assert "two three" in taken_up


@requirement("stream.silence")
@policies
@pytest.mark.parametrize("api", ["chat", "responses", "followed"])
def test_the_javascript_client_reads_over_a_silence(policy: Disconnect, api: str) -> None:
    need_node_packages()
    with serving(policy) as url:
        command = ["node", str(HERE / "silence_client.mjs"), api, url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == "one two three"
