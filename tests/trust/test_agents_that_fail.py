"""Agents that fail in every possible way. Numbers refer to the list of faults (149-171 is a table in tests/turns)."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import openai
import pytest

from openai_compat import (
    AgentRequest,
    Capabilities,
    Limits,
    Server,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    UsageReported,
    as_backend,
)
from tests.transports import uvicorn_socket
from tests.trust.probe import CHAT, ask, error_of, frames, in_process, strict_json, text_of
from tests.trust.wire import process

pytestmark = pytest.mark.anyio
FAILED = (500, "server_error", "agent_error", None)
HI: Any = [{"role": "user", "content": "hi"}]

DEADLY = """
from asyncio import CancelledError
from openai_compat import Server
from openai_compat_adapters.starlette import create_app


def generator(error):
    async def agent(prompt):
        yield "so far"
        raise error
    return agent


def at_once(error):
    async def agent(prompt):
        raise error
    return agent


def in_thread(error):
    def agent(prompt):
        yield "so far"
        raise error
    return agent


def in_clean_up(error):
    async def agent(prompt):
        try:
            yield "so far"
        finally:
            raise error
    return agent


ERRORS = [SystemExit(1), SystemExit(0), KeyboardInterrupt(), CancelledError(), GeneratorExit(), BaseException("x")]
ERRORS.append(BaseExceptionGroup("two", [SystemExit(1), KeyboardInterrupt()]))
agents = {
    f"{kind.__name__} {number}": kind(error)
    for kind in (generator, at_once, in_thread, in_clean_up)
    for number, error in enumerate(ERRORS)
}
app = create_app(Server({**agents, "good": lambda prompt: "still alive"}))
"""


def test_no_exception_of_an_agent_ends_the_server_process(tmp_path: Path) -> None:
    """149-171, be-02: SystemExit and KeyboardInterrupt from a stream killed the whole process of other servers"""
    with process(DEADLY, tmp_path) as (url, served), httpx2.Client(base_url=url, timeout=20) as client:
        models = [model["id"] for model in client.get("/v1/models").json()["data"]]
        assert len(models) == 4 * 7 + 1
        for model in models[:-1]:
            plain = client.post(CHAT, json=ask(model=model))
            assert error_of(plain) == FAILED, model
            answer = client.post(CHAT, json=ask(model=model, stream=True))
            if answer.status_code == 200:
                events = frames(answer.content)
                assert (events[-1]["error"]["type"], events[-1]["error"]["code"]) == ("agent_error", "agent_error")
                assert [event["choices"][0]["finish_reason"] for event in events[:-1]] == [None] * (len(events) - 1)
            else:
                assert error_of(answer) == FAILED, model
            assert served.poll() is None, model
        answer = client.post(CHAT, json=ask(model="good"))
        assert answer.json()["choices"][0]["message"]["content"] == "still alive"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_agent_that_times_out_is_a_gateway_timeout(stream: bool) -> None:
    """172"""

    async def agent(prompt: str) -> str:
        with anyio.fail_after(0):
            await anyio.sleep_forever()
        return "never"

    async with in_process(Server(agent)) as client:
        answer = await client.post(CHAT, json=ask(stream=stream))
    assert error_of(answer) == (504, "server_error", "agent_timeout", None)
    assert answer.headers["x-should-retry"] == "false"


async def says_nothing(prompt: str) -> AsyncIterator[str]:
    if prompt == "something":
        yield prompt


async def says_empty_text(prompt: str) -> AsyncIterator[str]:
    yield ""
    yield ""


async def returns_none(prompt: str) -> None:
    return None


def plainly_nothing(prompt: str) -> Iterator[str]:
    yield from ()


@pytest.mark.parametrize("agent", [says_nothing, says_empty_text, returns_none, plainly_nothing])
async def test_an_agent_that_says_nothing_has_said_something_empty(agent: Any) -> None:
    """174"""
    async with in_process(Server(agent)) as client:
        plain = (await client.post(CHAT, json=ask())).json()["choices"][0]
        events = frames((await client.post(CHAT, json=ask(stream=True))).content)
    assert (plain["message"]["content"], plain["finish_reason"]) == ("", "stop")
    assert events[-1] == "[DONE]"
    assert text_of(events) == ""
    assert events[-2]["choices"][0]["finish_reason"] == "stop"


WRONG = [1, 1.5, b"bytes", None, {}, {"content": "x"}, object(), Exception("x"), str, (x for x in "x")]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: type(wrong).__name__)
@pytest.mark.parametrize("before", [[], ["so far"]], ids=["first", "later"])
async def test_what_is_neither_text_nor_an_event_is_the_agents_failure(wrong: Any, before: list[str]) -> None:
    """175"""

    async def agent(request: AgentRequest) -> AsyncIterator[Any]:
        for piece in before:
            yield piece
        yield wrong
        yield "never said"

    async with in_process(Server(agent)) as client:
        plain = await client.post(CHAT, json=ask())
        streamed = await client.post(CHAT, json=ask(stream=True))
    assert error_of(plain) == (500, "server_error", "invalid_event", None)
    if before:
        events = frames(streamed.content)
        assert text_of(events) == "so far"
        assert events[-1]["error"]["code"] == "invalid_event"
    else:
        assert error_of(streamed) == error_of(plain)


async def test_after_any_failure_the_next_request_is_right() -> None:
    """176"""
    outcomes: list[Callable[[], str]] = [_raise(error) for error in (ValueError("x"), SystemExit(1), TimeoutError())]
    turns = iter([outcomes[0], str, outcomes[1], str, outcomes[2], str])

    async def agent(prompt: str) -> str:
        return "fine" + next(turns)()

    server = Server(agent, limits=Limits(slots=1))
    async with in_process(server) as client:
        statuses = [(await client.post(CHAT, json=ask())).status_code for _ in range(6)]
    assert statuses == [500, 200, 500, 200, 504, 200]
    assert server.services.live.slots.used == 0


def _raise(error: BaseException) -> Callable[[], str]:
    def call() -> str:
        raise error

    return call


SIZES = [("one chunk of 2 MB", 1, 2_000_000), ("5,000 chunks", 5_000, 10), ("an answer of 10 MB", 100, 100_000)]


@pytest.mark.parametrize(("chunks", "size"), [size[1:] for size in SIZES], ids=[size[0] for size in SIZES])
@pytest.mark.parametrize("kind", ["async", "thread"])
def test_large_answers_arrive_whole(kind: str, chunks: int, size: int) -> None:
    """177: as the sync SDK sees them, streamed and plain"""

    async def asynchronous(prompt: str) -> AsyncIterator[str]:
        for number in range(chunks):
            yield f"{number:08}".ljust(size, "é")

    def thread(prompt: str) -> Iterator[str]:
        for number in range(chunks):
            yield f"{number:08}".ljust(size, "é")

    expected = "".join([f"{number:08}".ljust(size, "é") for number in range(chunks)])
    with (
        uvicorn_socket(Server({"async": asynchronous, "thread": thread})) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as sdk,
    ):
        plain = sdk.chat.completions.create(model=kind, messages=HI)
        assert plain.choices[0].message.content == expected
        stream = sdk.chat.completions.create(model=kind, messages=HI, stream=True)
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(pieces) == expected
    assert len([piece for piece in pieces if piece]) == chunks


# 182: values that JSON does not have


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1.5, True, "1", -1])
async def test_usage_that_is_no_whole_number_is_the_agents_failure(number: Any) -> None:
    """182"""

    async def agent(request: AgentRequest) -> AsyncIterator[Any]:
        yield UsageReported(number, 1)

    async with in_process(Server(agent)) as client:
        for stream in (False, True):
            answer = await client.post(CHAT, json=ask(stream=stream))
            assert error_of(answer) == (500, "server_error", "invalid_usage", None)


@pytest.mark.parametrize("stream", [False, True])
async def test_nan_in_an_agents_data_becomes_strict_json(stream: bool) -> None:
    """182: the clients' parsers would refuse the whole answer"""
    token = {"token": "x", "logprob": math.nan, "bytes": None, "top_logprobs": [{"token": "y", "logprob": -math.inf}]}

    async def agent(request: AgentRequest) -> AsyncIterator[Any]:
        yield TextDelta("x", logprobs=[token])
        yield ToolCallReady("call_1", "f", '{"a": NaN}')

    backend = as_backend(agent, capabilities=Capabilities(logprobs=True))
    tools = [{"type": "function", "function": {"name": "f"}}]
    async with in_process(Server(backend)) as client:
        answer = await client.post(CHAT, json=ask(stream=stream, tools=tools, logprobs=True))
    assert answer.status_code == 200
    events = frames(answer.content)[:-1] if stream else [strict_json(answer.content)]
    found = [token for event in events for c in event["choices"] if c["logprobs"] for token in c["logprobs"]["content"]]
    assert [token["logprob"] for token in found] == [None]
    assert '{\\"a\\": NaN}' in answer.text  # arguments are the agent's text, passed on unchanged


@pytest.mark.parametrize(
    "events",
    [
        [ToolCallDelta("call_1", "{}")],
        [ToolCallReady("call_1", "f", "{}"), ToolCallDelta("call_1", "{}")],
        [ToolCallStarted("call_1", "other", "client")],
    ],
)
async def test_events_that_break_their_order_are_the_agents_failure(events: list[Any]) -> None:
    """175"""

    async def agent(request: AgentRequest) -> AsyncIterator[Any]:
        for event in events:
            yield event

    tools = [{"type": "function", "function": {"name": "f"}}]
    async with in_process(Server(agent)) as client:
        answer = await client.post(CHAT, json=ask(tools=tools))
    assert error_of(answer)[:2] == (500, "server_error")
