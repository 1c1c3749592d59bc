"""A chat WebSocket thread whose process is killed: another one continues, and no frame number is used twice."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.requirements import requirement
from tests.state.hosts import PATIENCE, Host, Hosts

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]  # servers are started and restarted


@asynccontextmanager
async def chat(host: Host) -> AsyncIterator[ClientConnection]:
    async with connect(host.url.replace("http://", "ws://").replace("/v1", "/chat"), proxy=None) as socket:
        yield socket


async def until(socket: ClientConnection, kind: str) -> list[dict[str, Any]]:
    """The frames up to the first one of this kind."""
    frames: list[dict[str, Any]] = []
    with anyio.fail_after(PATIENCE):
        while not frames or frames[-1]["type"] != kind:
            frames.append(json.loads(await socket.recv()))
    return frames


@requirement("chatws.processes")
@pytest.mark.parametrize(("engine", "number"), [("sqlite", 2), ("postgresql", 3)])
async def test_another_process_goes_on_with_the_thread_of_one_that_was_killed(
    engine: str, number: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    in_file = f"sqlite:///{tmp_path / 'state.db'}"
    hosts = Hosts(in_file if engine == "sqlite" else request.getfixturevalue("store_url"), number)
    try:
        a, *others = hosts.all()
        said = {"role": "user", "model": "counting", "thread_id": "t"}
        async with chat(a) as at_a, AsyncExitStack() as stack:
            elsewhere = [await stack.enter_async_context(chat(host)) for host in others]
            await at_a.send(json.dumps({**said, "content": "1000"}))
            seen = [*await until(at_a, "chunk"), *await until(at_a, "chunk")]
            resume = {"type": "resume_chat", "thread_id": "t", "last_seq": seen[-1]["chat_seq"]}
            there: list[list[dict[str, Any]]] = []
            for at_b in elsewhere:
                await at_b.send(json.dumps(resume))
                header, *_ = await until(at_b, "chat_resumed")
                assert (header["status"], header["replay_incomplete"]) == ("running", False)
                there.append(await until(at_b, "chunk"))
                assert there[-1][0]["chat_seq"] == seen[-1]["chat_seq"] + 1
            a.kill()
            await elsewhere[-1].send(json.dumps({**said, "model": "echoing", "content": "and now?"}))
            rest = await until(elsewhere[-1], "message")
        assert rest[-1]["content"] == "and now?"
        numbers = [frame["chat_seq"] for frame in [*there[-1], *rest] if "chat_seq" in frame]
        assert numbers == sorted(set(numbers))
        assert numbers[-1] > numbers[0] + 100  # numbers that the killed process may have sent are skipped
    finally:
        hosts.remove()
