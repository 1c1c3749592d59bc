"""Measures of the chat WebSocket and of the tool loop, with their targets."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from functools import partial
from typing import Any, cast

import load
import sockets
from launch import Running, Start, running, served
from measure import Measure, Scale, Target, at_full_speed, each_round

from openai_compat import AgentEvent, AgentRequest, Capabilities, RunContext, ToolCallReady
from openai_compat.tools import ToolLoop, tool
from openai_compat.wire.chat.parse import parse_chat

STARTED: dict[str, Start] = {
    "starlette": partial(running, "bare_socket"),
    "ours": partial(running, "chat_websocket"),
    "serve": partial(served, "chat_websocket"),
}


# The chat WebSocket


def streaming(scale: Scale, *, by_cpu: bool) -> Iterator[tuple[str, float]]:
    """Events per second, or per second of the server's CPU."""

    def one(server: Running) -> float:
        began, before = time.perf_counter(), server.cpu()
        with at_full_speed(server):
            events = load.run(_events(server.port, scale))
        return events / (server.cpu() - before if by_cpu else time.perf_counter() - began)

    return each_round(STARTED, scale.rounds, one)


async def _events(port: int, scale: Scale) -> int:
    """Count the events of several concurrent turns, repeated until the time is up."""
    said, until = sockets.say("burst", scale.burst_events), time.perf_counter() + scale.seconds
    count = 0
    while time.perf_counter() < until:
        turns = await sockets.opened(port, scale.burst_streams, said)
        await sockets.ended(turns)
        assert min([turn.events for turn in turns]) >= scale.burst_events, "frames are missing"
        count += scale.burst_streams * scale.burst_events
    return count


def idle(scale: Scale) -> Iterator[tuple[str, float]]:
    """Memory in kB per open socket without a message, beyond that of a server with a few sockets."""
    for _ in range(scale.rounds):
        for name, start in STARTED.items():
            with start() as server:  # freed memory stays with the process: start a new one for each figure
                yield name, load.run(_kilobytes(server, scale.idle_sockets))


async def _kilobytes(server: Running, count: int) -> float:
    warm = await sockets.opened(server.port, 20)
    before = server.memory()
    opened = await sockets.opened(server.port, count)
    after = server.memory()
    for socket in [*warm, *opened]:
        socket.close()
    return (after - before) / count / 1000


# The tool loop


class Caller:
    """A model that makes `calls` tool calls in each of `roundtrips` answers, and then answers with text."""

    capabilities = Capabilities(client_tools=True)

    def __init__(self, roundtrips: int, calls: int) -> None:
        self._roundtrips = roundtrips
        self._calls = calls
        self.answers = 0

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        self.answers += 1
        if self.answers % (self._roundtrips + 1) == 0:
            yield "It is sunny."
            return
        for number in range(self._calls):
            yield ToolCallReady(f"call_{self.answers}_{number}", "weather", '{"city": "Paris"}')


@tool(danger="safe")
async def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def tools(scale: Scale, *, roundtrips: int, calls: int) -> Iterator[tuple[str, float]]:
    """CPU milliseconds per roundtrip of the loop. The model's own share is included: it is negligible."""
    for number in range(scale.rounds + 1):
        figure = asyncio.run(_roundtrips(roundtrips, calls, scale.seconds))
        if number:
            yield "ours", figure


async def _roundtrips(roundtrips: int, calls: int, seconds: float) -> float:
    model = Caller(roundtrips, calls)
    loop = ToolLoop(model, [weather], roundtrips=roundtrips)
    body = json.dumps({"model": "agent", "messages": [{"role": "user", "content": "The weather?"}]})
    turns, until, before = 0, time.perf_counter() + seconds, time.process_time()
    while time.perf_counter() < until:
        context = RunContext("chatcmpl-1", "req_1", time.monotonic() + 60, logging.getLogger("openai_compat"))
        async with aclosing(cast("Any", loop.run(parse_chat(body.encode()).request, context))) as events:
            async for _ in events:
                pass
        turns += 1
    used = time.process_time() - before
    assert model.answers == turns * (roundtrips + 1), "not so many roundtrips"
    return used / (turns * roundtrips) * 1000


QUICKER = (Target(">=", 1.5, "starlette"), Target(">=", 2, "starlette", "serve"))
MEASURES = (
    Measure("socket", "WebSocket streaming", "events/s", QUICKER, partial(streaming, by_cpu=False)),
    Measure("socket-cpu", "for a second of CPU", "events/s", QUICKER, partial(streaming, by_cpu=True)),
    Measure(
        "idle-socket",
        "memory per idle socket",
        "kB",
        tuple([Target("<=", 30, "starlette", of, above=True) for of in ("ours", "serve")]),
        idle,
    ),
    Measure("tools", "a roundtrip of tools", "ms CPU", (Target("<=", 2),), partial(tools, roundtrips=5, calls=1)),
    Measure("tools-many", "20 with 4 calls each", "ms CPU", (Target("<=", 2),), partial(tools, roundtrips=20, calls=4)),
)
