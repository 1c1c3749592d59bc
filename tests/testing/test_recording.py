"""Recorded exchanges: stored, compared, and replayed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from openai_compat import AgentError
from openai_compat.testing import Recording, leave_at
from openai_compat_adapters.testing import replaying, served

HELLO: Any = [{"role": "user", "content": "hello"}]


async def agent(prompt: str) -> AsyncIterator[str]:
    yield "Hello, "
    yield "world"


async def other(prompt: str) -> AsyncIterator[str]:
    yield "Good bye"


def recorded(agent: Any, **options: Any) -> Recording:
    """A plain answer and a streamed one."""
    recording = Recording()
    with served(agent, recording=recording, **options) as up:
        create: Any = up.client.chat.completions.create
        create(model="agent", messages=HELLO)
        assert list(create(model="agent", messages=HELLO, stream=True))
    return recording


def test_a_recording_holds_requests_and_answers_and_each_event_of_a_stream() -> None:
    plain, streamed = recorded(agent).normalised().exchanges
    assert (plain.method, plain.path, plain.request) == (
        "POST",
        "/v1/chat/completions",
        {"messages": HELLO, "model": "agent"},
    )
    assert (plain.status, plain.headers["content-type"], plain.complete) == (200, "application/json", True)
    assert plain.body["choices"][0]["message"]["content"] == "Hello, world"
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert [event if event == "[DONE]" else event["choices"][0]["delta"] for event in streamed.body] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "Hello, "},
        {"content": "world"},
        {},
        "[DONE]",
    ]


def test_ids_and_times_are_normalised_and_still_tell_answers_apart() -> None:
    first, second = recorded(agent).normalised().exchanges
    assert first.body["id"] == "chatcmpl-1"
    assert {event["id"] for event in second.body[:-1]} == {"chatcmpl-2"}
    assert first.body["created"] == 0
    assert recorded(agent).normalised() == recorded(agent).normalised()


def test_no_key_is_recorded() -> None:
    assert "sk-very-secret" not in recorded(agent, keys="sk-very-secret", api_key="sk-very-secret").dumps()


def test_an_answer_that_was_left_is_marked() -> None:
    recording = Recording()
    with served(agent, recording=recording) as up:
        stream = up.client.chat.completions.create(model="agent", messages=HELLO, stream=True)
        assert len(list(leave_at(stream, 1))) == 1
    assert [exchange.complete for exchange in recording.exchanges] == [False]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_async_clients_are_recorded_too() -> None:
    recording = Recording()
    with served(agent, recording=recording) as up:
        create: Any = up.async_client.chat.completions.create
        await create(model="agent", messages=HELLO)
        assert [chunk async for chunk in await create(model="agent", messages=HELLO, stream=True)]
    assert recording.normalised() == recorded(agent).normalised()


def test_a_recording_survives_its_file(tmp_path: Path) -> None:
    recording = recorded(agent)
    recording.save(tmp_path / "deep" / "golden.json")
    assert Recording.load(tmp_path / "deep" / "golden.json") == recording.normalised()


def test_a_check_passes_for_the_same_and_shows_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "golden.json"
    with pytest.raises(AssertionError, match="--openai-compat-update"):
        recorded(agent).check(path)
    recorded(agent).check(path, update=True)
    recorded(agent).check(path)
    with pytest.raises(AssertionError, match=r'\+ +"content": "Good bye"'):
        recorded(other).check(path)


def test_a_recording_answers_real_clients() -> None:
    recording = recorded(agent)
    with httpx2.Client(transport=replaying(recording)) as http:
        client: Any = openai.OpenAI(base_url="http://localhost/v1", api_key="any", http_client=http)
        answer = client.chat.completions.create(model="agent", messages=HELLO)
        chunks = list(client.chat.completions.create(model="agent", messages=HELLO, stream=True))
        assert answer.choices[0].message.content == "Hello, world"
        assert "".join([chunk.choices[0].delta.content or "" for chunk in chunks]) == "Hello, world"
        with pytest.raises(LookupError, match="no answer is recorded"):
            client.with_options(max_retries=0).chat.completions.create(model="another", messages=HELLO)


def test_errors_are_recorded_with_the_headers_that_mean_something() -> None:
    async def busy(prompt: str) -> str:
        raise AgentError("Come back later.", status=429, code="busy", retry_after=3)

    recording = Recording()
    with served(busy, recording=recording) as up, pytest.raises(openai.RateLimitError):
        up.client.chat.completions.create(model="agent", messages=HELLO)
    (exchange,) = recording.exchanges
    assert exchange.headers == {
        "content-type": "application/json",
        "cache-control": "no-store",
        "retry-after": "3",
        "x-should-retry": "false",
    }
    assert json.loads(exchange.raw_body)["error"]["code"] == "busy"
