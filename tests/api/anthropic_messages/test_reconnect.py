"""A connection to Claude Code breaks: the agent runs once, and Claude Code's repeated request gets its answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from openai_compat import AgentError, Conversations, Disconnect, MessageBreak, Principal, Server
from openai_compat.api.anthropic_messages import AnthropicMessages
from openai_compat.api.anthropic_messages.reconnect import MOST_BYTES
from tests.api.anthropic_messages.support import refusal, send
from tests.requirements import requirement
from tests.support.exchanges import Recorder
from tests.wire.anthropic_messages.reading import check_order, fold_stream, parse_stream
from tests.wire.anthropic_messages.test_retried_requests import CUT_OFF

pytestmark = pytest.mark.anyio

SESSION = (b"x-claude-code-session-id", b"s1")


class Slow:
    """An agent that says two things, the second one after a signal."""

    def __init__(self) -> None:
        self.runs = 0
        self.stopped = 0
        self.may_go_on = anyio.Event()

    async def __call__(self, prompt: str) -> AsyncIterator[Any]:
        self.runs += 1
        yield "First. "
        yield MessageBreak()
        try:
            await self.may_go_on.wait()
        except BaseException:
            self.stopped += 1
            raise
        if prompt == "fail":
            raise AgentError("It broke.", code="broken")
        yield "Second."


def serve(agent: Any, reconnect: float = 3600, **settings: Any) -> Server:
    return Server(agent, apis=[AnthropicMessages(reconnect=reconnect)], **settings)


async def until(condition: Any) -> None:
    with anyio.fail_after(20):
        while not condition():
            await anyio.sleep(0.001)


@asynccontextmanager
async def broken(server: Server, agent: Slow, *headers: tuple[bytes, bytes], **fields: Any) -> AsyncGenerator[Recorder]:
    """A stream to Claude Code whose connection breaks after it has begun."""
    sent, runs = Recorder(), agent.runs
    async with anyio.create_task_group() as tasks:

        async def ask() -> None:
            await send(server, SESSION, *headers, to=sent, stream=True, **fields)

        tasks.start_soon(ask)
        await until(lambda: agent.runs > runs and b"First" in sent.data)
        tasks.cancel_scope.cancel()
    yield sent


def texts(message: Any) -> list[str]:
    return [block["text"] for block in message["content"]]


@requirement("anthropic.reconnect")
@pytest.mark.parametrize("kept", [{}, {"conversations": Conversations()}, {"disconnect": Disconnect("finish")}])
async def test_the_same_request_is_told_what_the_agent_says_meanwhile(kept: dict[str, Any]) -> None:
    agent = Slow()
    server = serve(agent, **kept)
    async with broken(server, agent) as first, anyio.create_task_group() as tasks:
        again, plain = Recorder(), Recorder()
        for to, stream in ((again, True), (plain, False)):

            async def ask(to: Recorder = to, stream: bool = stream) -> None:
                await send(server, SESSION, to=to, stream=stream)

            tasks.start_soon(ask)
        await until(lambda: b"First" in again.data)
        agent.may_go_on.set()
    check_order(parse_stream(again.data))
    told = fold_stream(parse_stream(again.data))
    assert texts(told) == texts(plain.json) == ["First. ", "Second."]
    assert told["id"] == plain.json["id"] == parse_stream(first.data)[0]["message"]["id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert (agent.runs, agent.stopped) == (1, 0)


@requirement("anthropic.reconnect")
async def test_who_has_some_blocks_is_told_the_others() -> None:
    agent = Slow()
    server = serve(agent)
    said: list[dict[str, Any]] = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "text", "text": "First. "}]},
        {"role": "user", "content": [CUT_OFF]},
    ]
    async with broken(server, agent) as first:
        agent.may_go_on.set()
        rest = fold_stream(parse_stream((await send(server, SESSION, stream=True, messages=said)).data))
        plain = (await send(server, SESSION, messages=said)).json
    assert texts(rest) == texts(plain) == ["Second."]
    assert rest["id"] != parse_stream(first.data)[0]["message"]["id"]
    assert agent.runs == 1


@requirement("anthropic.reconnect")
async def test_an_agent_that_nobody_asks_for_again_is_stopped_and_the_request_is_a_new_one_then() -> None:
    agent = Slow()
    server = serve(agent, reconnect=0.01)
    async with broken(server, agent):
        await until(lambda: agent.stopped)
        agent.may_go_on.set()
        assert texts((await send(server, SESSION)).json) == ["First. ", "Second."]
    assert agent.runs == 2


async def test_without_time_for_it_an_agent_is_stopped_at_once() -> None:
    agent = Slow()
    async with broken(serve(agent, reconnect=0), agent):
        assert agent.stopped == 1
    with pytest.raises(ValueError, match="reconnect"):
        AnthropicMessages(reconnect=-1)


@requirement("anthropic.reconnect")
async def test_a_connection_that_breaks_again_has_its_time_again() -> None:
    agent = Slow()
    server = serve(agent)
    async with broken(server, agent):
        again = Recorder()
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:

                async def ask() -> None:
                    await send(server, SESSION, to=again, stream=True)

                tasks.start_soon(ask)
                await until(lambda: b"First" in again.data)
                scope.cancel()
        agent.may_go_on.set()
        assert texts((await send(server, SESSION)).json) == ["First. ", "Second."]
    assert (agent.runs, agent.stopped) == (1, 0)


@requirement("anthropic.reconnect")
async def test_the_same_again_after_a_good_answer_is_a_run_of_its_own() -> None:
    agent = Slow()
    agent.may_go_on.set()
    at_once, later = serve(agent), serve(agent, reconnect=1e-9)
    for server, runs in ((at_once, 1), (later, 2)):
        agent.runs = 0
        for _ in range(2):  # a program retries at once
            assert texts((await send(server, SESSION)).json) == ["First. ", "Second."]
        assert agent.runs == runs


@requirement("anthropic.reconnect")
async def test_nobody_else_is_told_of_a_turn_and_nothing_else_is_answered_from_it() -> None:
    agent = Slow()
    keys = {"a": Principal("ann"), "b": Principal("bob")}
    server = serve(agent, keys=keys)
    ann, bob = (b"x-api-key", b"a"), (b"x-api-key", b"b")
    async with broken(server, agent, ann):
        agent.may_go_on.set()
        await send(server, SESSION, bob)
        await send(server, (b"x-claude-code-session-id", b"s2"), ann)
        await send(server, SESSION, (b"x-claude-code-agent-id", b"one"), ann)
        await send(server, SESSION, ann, messages=[{"role": "user", "content": "hello"}])
        await send(server, SESSION, ann, model="agent", messages=[{"role": "user", "content": "hi"}], tools=[])
        await send(server, ann)
    assert agent.runs == 6  # only the last but one repeats the request


@requirement("anthropic.reconnect")
async def test_an_answer_that_failed_without_its_client_is_told_as_it_was() -> None:
    agent = Slow()
    server = serve(agent)
    said = [{"role": "user", "content": "fail"}]
    async with broken(server, agent, messages=said):
        agent.may_go_on.set()
        events = parse_stream((await send(server, SESSION, stream=True, messages=said)).data)
        plain = await send(server, SESSION, messages=said)
    assert [event["type"] for event in events][-2:] == ["content_block_stop", "error"]
    assert (plain.status, plain.headers["x-should-retry"], plain.json["error"]) == (500, "false", events[-1]["error"])
    assert agent.runs == 1


@requirement("anthropic.reconnect")
async def test_a_failure_is_told_again_and_a_refused_request_is_tried_again() -> None:
    runs: list[str] = []

    async def agent(prompt: str) -> str:
        runs.append(prompt)
        raise AgentError("It broke.", code="broken", should_retry=True if prompt == "again" else None)

    server = serve(agent)
    for prompt, expected in (("once", 1), ("again", 2)):
        runs.clear()
        for _ in range(2):
            sent = await send(server, SESSION, messages=[{"role": "user", "content": prompt}], stream=True)
            assert (sent.status, sent.json["error"]["message"]) == (500, "It broke.")
        assert len(runs) == expected


async def test_an_answer_that_is_too_long_to_be_kept_is_lost_but_the_agent_runs_once() -> None:
    runs: list[str] = []

    async def agent(prompt: str) -> AsyncIterator[str]:
        runs.append(prompt)
        for _ in range(MOST_BYTES // 1_000_000 + 1):
            yield "x" * 1_000_000

    server = serve(agent)
    whole = await send(server, SESSION, stream=True)
    assert whole.complete
    assert refusal(await send(server, SESSION, stream=True))[:3] == (409, "invalid_request_error", "answer_lost")
    assert runs == ["hi"]
