"""The scripted agent, fault injection, and watched agents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import openai
import pytest

from openai_compat import AgentRequest, Capabilities, RunContext, ToolCallReady
from openai_compat.testing import ScriptedBackend, Watched, leave_at, raise_at, slow
from openai_compat_adapters.testing import served

HELLO: Any = [{"role": "user", "content": "hello"}]
WEATHER: Any = [{"type": "function", "function": {"name": "weather"}}]


def said(agent: Any) -> str | None:
    with served(agent) as up:
        return up.client.chat.completions.create(model="agent", messages=HELLO).choices[0].message.content


def streamed_until_failure(agent: Any) -> tuple[str, openai.APIError]:
    """The text before the error inside the stream."""
    text = ""
    with served(agent) as up:
        stream = up.client.chat.completions.create(model="agent", messages=HELLO, stream=True)
        try:
            for chunk in stream:
                text += chunk.choices[0].delta.content or ""
        except openai.APIError as error:
            return text, error
    raise AssertionError("no failure")


def test_a_scripted_backend_plays_one_script_a_turn_and_then_the_last_one_again() -> None:
    backend = ScriptedBackend(["one"], ["two", " more"])
    with served(backend) as up:
        answers = [up.client.chat.completions.create(model="agent", messages=HELLO) for _ in range(3)]
    assert [answer.choices[0].message.content for answer in answers] == ["one", "two more", "two more"]
    assert [request.prompt for request in backend.requests] == ["hello"] * 3


def test_a_scripted_backend_raises_the_exceptions_of_its_script() -> None:
    text, error = streamed_until_failure(ScriptedBackend(["half an ", RuntimeError("broken")]))
    assert (text, error.code) == ("half an ", "agent_error")


def test_a_scripted_backend_declares_the_capabilities_it_is_given() -> None:
    backend = ScriptedBackend(["x"], capabilities=Capabilities(client_tools=False))
    with served(backend) as up, pytest.raises(openai.BadRequestError):
        up.client.chat.completions.create(model="agent", messages=HELLO, tools=WEATHER, tool_choice="required")
    assert backend.requests == []


def test_a_scripted_backend_calls_the_clients_tools() -> None:
    backend = ScriptedBackend([ToolCallReady("call_1", "weather", '{"city": "Paris"}')])
    with served(backend) as up:
        answer = up.client.chat.completions.create(model="agent", messages=HELLO, tools=WEATHER)
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.choices[0].message.tool_calls or ()
    assert (call.id, call.type) == ("call_1", "function")


def test_a_scripted_backend_without_a_script_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one script"):
        ScriptedBackend()


async def three(prompt: str) -> AsyncIterator[str]:
    for word in ("one ", "two ", "three"):
        yield word


def test_an_agent_fails_after_as_many_items_as_it_is_told() -> None:
    assert streamed_until_failure(raise_at(three, 2))[0] == "one two "
    assert streamed_until_failure(raise_at(three, 99))[0] == "one two three"
    with served(raise_at(three, 0)) as up, pytest.raises(openai.InternalServerError):
        up.client.chat.completions.create(model="agent", messages=HELLO)


def test_a_failing_agent_raises_the_error_it_is_given() -> None:
    with served(raise_at(three, 1, TimeoutError())) as up, pytest.raises(openai.InternalServerError) as caught:
        up.client.chat.completions.create(model="agent", messages=HELLO)
    assert caught.value.status_code == 504
    assert [type(run.error) for run in up.runs] == [TimeoutError]


def test_a_slow_agent_says_what_it_said_and_faults_compose() -> None:
    assert said(slow(three, 0.001)) == "one two three"
    assert streamed_until_failure(raise_at(slow(three, 0.001, after=1), 2))[0] == "one two "


async def test_a_gate_holds_everything_from_an_item_on() -> None:
    gate = anyio.Event()
    with served(slow(three, gate, after=1)) as up, anyio.fail_after(10):
        stream = await up.async_client.chat.completions.create(model="agent", messages=HELLO, stream=True)
        seen: list[str] = []
        async for chunk in stream:
            seen += [chunk.choices[0].delta.content] if chunk.choices[0].delta.content else []
            if seen == ["one "]:
                await up.runs[0].said(1)
                assert not gate.is_set()
                gate.set()
        assert seen == ["one ", "two ", "three"]


def test_a_script_can_wait_at_a_gate() -> None:
    class Counted:
        waits = 0

        async def wait(self) -> None:
            Counted.waits += 1

    assert said(ScriptedBackend(["a", Counted(), "b"])) == "ab"
    assert Counted.waits == 1


async def endless(prompt: str) -> AsyncIterator[str]:
    while True:
        yield "more "
        await anyio.sleep(0)


async def test_a_client_that_leaves_at_a_chunk_stops_the_agent() -> None:
    with served(endless) as up, anyio.fail_after(10):
        stream = await up.async_client.chat.completions.create(model="agent", messages=HELLO, stream=True)
        chunks = [chunk async for chunk in leave_at(stream, 3)]
        await up.runs[0].ended.wait()
    assert len(chunks) == 3


def test_a_plain_client_that_leaves_at_a_chunk_stops_the_agent() -> None:
    with served(endless) as up:
        stream = up.client.chat.completions.create(model="agent", messages=HELLO, stream=True)
        chunks = list(leave_at(stream, 3))
        assert len(chunks) == 3
        assert up.runs[0].ended.is_set()


async def test_a_client_can_leave_before_the_first_chunk() -> None:
    with served(endless) as up, anyio.fail_after(10):
        stream = await up.async_client.chat.completions.create(model="agent", messages=HELLO, stream=True)
        assert [chunk async for chunk in leave_at(stream, 0)] == []
        await up.runs[0].ended.wait()


def test_a_watched_agent_tells_what_it_was_asked_what_it_said_and_how_it_ended() -> None:
    with served({"good": three, "bad": raise_at(three, 1)}) as up:
        up.client.chat.completions.create(model="good", messages=HELLO)
        with pytest.raises(openai.InternalServerError):
            up.client.chat.completions.create(model="bad", messages=HELLO)
    good, bad = up.runs
    assert (good.request.prompt, good.items, good.error) == ("hello", ["one ", "two ", "three"], None)
    assert (bad.items, type(bad.error)) == (["one "], RuntimeError)
    assert [run.ended.is_set() for run in up.runs] == [True, True]


class Asked:
    """A backend with its own way to stop."""

    capabilities = Capabilities()
    asked: list[RunContext]

    def __init__(self) -> None:
        self.asked = []

    def request_cancel(self, context: RunContext) -> None:
        self.asked.append(context)

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[str]:
        yield "hello"
        await anyio.sleep_forever()


def test_a_wrapped_agent_is_still_asked_to_stop_in_its_own_way() -> None:
    agent = Asked()
    with served(Watched(slow(agent, 0))) as up:
        stream = up.client.chat.completions.create(model="agent", messages=HELLO, stream=True)
        assert len(list(leave_at(stream, 1))) == 1
    assert len(agent.asked) == 1


@pytest.fixture(autouse=True)
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio
