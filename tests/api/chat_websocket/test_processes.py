"""Threads over several servers that share only a store: resumed, stopped and fed at any of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from openai_compat import AgentRequest, Server
from openai_compat.api.chat_websocket.shared_threads import frames_from_json, frames_to_json
from openai_compat.events import ToolCallReady
from tests.api.chat_websocket.client import Gate, chat, server_of, types
from tests.requirements import requirement

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.db'}"
    if "trio" in request.node.name:
        pytest.skip("its driver is for asyncio")
    found: str = request.getfixturevalue("postgres_url")
    return found


@asynccontextmanager
async def servers(url: str, agent: Any, number: int = 2) -> AsyncIterator[list[Server]]:
    made = [server_of(agent, store=url) for _ in range(number)]
    async with AsyncExitStack() as stack:
        for server in made:
            await stack.enter_async_context(server.lifespan())
        yield made


def numbers(frames: list[dict[str, Any]]) -> list[int]:
    return [frame["chat_seq"] for frame in frames if "chat_seq" in frame]


@requirement("chatws.processes")
async def test_a_running_turn_is_resumed_at_another_server_without_a_gap_or_a_frame_twice(url: str) -> None:
    gate = Gate()
    async with servers(url, gate) as (a, b):
        async with chat(a) as at_a:
            await at_a.ask("first")
            await at_a.say("wait a")
            await gate.waits("a")
            seen = await at_a.until("chunk")
        async with chat(b) as at_b, chat(b) as another:
            for client in (at_b, another):
                await client.send(type="resume_chat", thread_id="t", last_seq=seen[-1]["chat_seq"])
                header = await client.receive()
                assert (header["status"], header["replay_count"], header["replay_incomplete"]) == ("running", 0, False)
            gate.doors["a"].set()
            for client in (at_b, another):
                rest = await client.until("message")
                assert numbers(rest) == [seen[-1]["chat_seq"] + 1 + number for number in range(len(rest))]
                assert rest[-1]["content"] == "[a]wait a"
            # The next turn runs on this server, and the numbering goes on.
            there = await at_b.ask("then")
            assert numbers(there)[0] == rest[-1]["chat_seq"] + 1
            async with chat(a) as at_a:
                await at_a.send(type="resume_chat", thread_id="t", last_seq=rest[-1]["chat_seq"])
                header = await at_a.receive()
                assert not header["replay_incomplete"]
                assert await at_a.until() == there


@requirement("chatws.processes")
async def test_a_turn_is_stopped_through_another_server(url: str) -> None:
    gate = Gate()
    async with servers(url, gate) as (a, b), chat(a) as at_a, chat(b) as at_b:
        await at_a.say("wait a")
        await gate.waits("a")
        await at_a.until("chunk")
        with anyio.fail_after(10):
            listed: list[dict[str, Any]] = []
            while types(listed) != ["chat_turn_active", "chat_turns"]:
                await at_b.send(type="list_chat_turns")
                listed = await at_b.until("chat_turns")
        assert (listed[0]["thread_id"], listed[1]["turns"]) == ("t", ["t"])
        await at_b.send(type="stop", thread_id="t")
        assert (await at_b.until("generation_stopped"))[-1]["thread_id"] == "t"
        assert (await at_a.until("generation_stopped"))[-1]["reason"] == "stop"
        await gate.until(lambda: gate.ended == ["a"])


TOOL = {"name": "where", "description": "Where the user is.", "parameters": {"type": "object", "properties": {}}}


async def traveller(request: AgentRequest) -> AsyncIterator[Any]:
    """Calls the client's tool for its location."""
    if request.resume is None:
        yield ToolCallReady("call_1", "where", "{}")
    else:
        yield "You are in " + request.resume.results["call_1"].text


@requirement("chatws.processes")
async def test_the_result_of_a_clients_tool_comes_through_another_server(url: str) -> None:
    async with servers(url, traveller) as (a, b), chat(a) as at_a, chat(b) as at_b:
        await at_a.send(type="client_tools_manifest", tools=[TOOL])
        await at_a.say("where am I?")
        await at_a.until("tool_call")
        with anyio.fail_after(10):
            while True:  # until the store shows that the turn waits for the result
                await at_b.send(type="tool_result", tool_call_id="call_1", result="Lisbon")
                if not await at_b.pong():
                    break
        assert (await at_a.until("message"))[-1]["content"] == "You are in Lisbon"


@requirement("chatws.processes")
async def test_a_newer_message_at_another_server_takes_the_place_of_the_one_that_runs(url: str) -> None:
    gate = Gate()
    async with servers(url, gate) as (a, b), chat(a) as at_a, chat(b) as at_b:
        await at_a.say("wait a")
        await gate.waits("a")
        await at_b.say("newer")
        frames = await at_b.until("message")
        assert frames[-1]["content"] == "newer"
        old = await at_a.until("generation_stopped")
        assert old[-1]["reason"] == "superseded"
        assert numbers(frames) == [old[-1]["chat_seq"] + 1 + number for number in range(len(frames))]


@requirement("chatws.processes")
def test_bytes_in_frames_survive_the_store() -> None:
    frames = [{"type": "image", "data": b"\x00\xff", "parts": [{"data": b""}], "chat_seq": 1}]
    assert frames_from_json(frames_to_json(frames)) == frames
