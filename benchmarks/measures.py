"""What is measured of streams and plain answers, how, and what is to be reached."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection
from typing import Any

import load
from launch import HERE, SERVERS, Running, running
from measure import Measure, Scale, Target, at_full_speed, each_round
from servers.agents import ANSWER, EVENTS_PER_SECOND, PIECE

WITH_RESPONSES = ("floor", "ours")
VENDORS = ("openai", "anthropic", "httpx", "httpx2", "google.genai", "mistralai", "cohere", "starlette", "fastapi")


def check() -> None:
    """All servers must say the same before their speed is worth anything."""
    for name in SERVERS:
        with running(name) as server:
            assert _ask(server, "plain")["choices"][0]["message"]["content"] == ANSWER, name
            assert "".join(_streamed(server, "burst", 3)) == PIECE * 3, name
    sizes = [_size_of_response(name) for name in WITH_RESPONSES]
    assert max(sizes) < min(sizes) * 1.01, f"not the same bytes: {sizes}"


def _size_of_response(name: str) -> int:
    """Bytes of so long a stream that only its deltas count."""
    with running(name) as server:
        return len(_post(server, load.response_request(20_000)))


def _ask(server: Running, model: str) -> dict[str, Any]:
    return json.loads(_post(server, load.request(model, _prompt("hello"))))


def _streamed(server: Running, model: str, events: int) -> list[str]:
    lines = _post(server, load.request(model, _prompt(events), stream=True)).decode().split("\n\n")
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line and line != "data: [DONE]"]
    return [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]


def _post(server: Running, message: bytes) -> bytes:
    head, _, body = message.partition(b"\r\n\r\n")
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", head.split()[1].decode(), body, {"Content-Type": "application/json"})
    return connection.getresponse().read()


def _prompt(content: object) -> list[dict[str, str]]:
    return [{"role": "user", "content": str(content)}]


def _long_history() -> list[dict[str, str]]:
    """About 100 kB in 201 messages."""
    text = ("It was the best of times, it was the worst of times. " * 10)[:480]
    turns = [{"role": role, "content": text} for _ in range(100) for role in ("user", "assistant")]
    return [*turns, *_prompt("And then?")]


def burst(scale: Scale) -> Iterator[tuple[str, float]]:
    return _streams(scale, SERVERS, load.request("burst", _prompt(scale.burst_events), stream=True))


def responses(scale: Scale) -> Iterator[tuple[str, float]]:
    return _streams(scale, WITH_RESPONSES, load.response_request(scale.burst_events))


def _streams(scale: Scale, servers: Sequence[str], message: bytes) -> Iterator[tuple[str, float]]:
    def one(server: Running) -> float:
        with at_full_speed(server):
            return asyncio.run(events_per_second(server, message, scale))

    return each_round(servers, scale.rounds, one)


async def events_per_second(server: Running, message: bytes, scale: Scale) -> float:
    """Of several streams at once, begun again and again."""
    events, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < scale.seconds:
        streams = await load.open_streams(server.port, message, scale.burst_streams)
        await load.ended(streams)
        events += sum([stream.events for stream in streams])
    return events / elapsed


def plain(scale: Scale) -> Iterator[tuple[str, float]]:
    return _requests(scale, SERVERS, load.request("plain", _prompt("hello")))


def history(scale: Scale) -> Iterator[tuple[str, float]]:
    return _requests(scale, SERVERS, load.request("history", _long_history()))


def _requests(scale: Scale, servers: Sequence[str], message: bytes) -> Iterator[tuple[str, float]]:
    def one(server: Running) -> float:
        count = load.requests_per_second(server.port, message, connections=scale.connections, seconds=scale.seconds)
        with at_full_speed(server):
            return asyncio.run(count)

    return each_round(servers, scale.rounds, one)


def paced(scale: Scale) -> Iterator[tuple[str, float]]:
    """CPU per event in microseconds."""
    events = int(EVENTS_PER_SECOND * (scale.seconds + 4))
    message = load.request("paced", _prompt(events), stream=True)
    return each_round(SERVERS, scale.rounds, lambda server: asyncio.run(cpu_per_event(server, message, scale)))


async def cpu_per_event(server: Running, message: bytes, scale: Scale, *, to_the_end: bool = False) -> float:
    """In microseconds, in a stretch of time in which all streams are open and none ends."""
    streams = await load.open_streams(server.port, message, scale.paced_streams)
    began, before = server.cpu(), sum([stream.events for stream in streams])
    await asyncio.sleep(scale.seconds)
    used, after = server.cpu() - began, sum([stream.events for stream in streams])
    assert not any([stream.done.done() for stream in streams]), "a stream ended while it was measured"
    if to_the_end:
        await load.ended(streams)
    for stream in streams:
        stream.close()
    await asyncio.sleep(0.5)  # the server notices that they have left
    return used / (after - before) * 1e6


def idle(scale: Scale) -> Iterator[tuple[str, float]]:
    """Memory in kB for each open stream that says nothing, beyond that of a server that has served before."""
    message = load.request("idle", _prompt(1), stream=True)

    async def kilobytes_per_stream(server: Running) -> float:
        warm = await load.open_streams(server.port, message, 20)
        before = server.memory()
        streams = await load.open_streams(server.port, message, scale.idle_streams)
        after = server.memory()
        for stream in [*warm, *streams]:
            stream.close()
        return (after - before) / len(streams) / 1000

    for _ in range(min(scale.rounds, 3)):
        for name in SERVERS:
            with running(name) as server:  # memory is not given back: a new process for each figure
                yield name, asyncio.run(kilobytes_per_stream(server))


IMPORT = f"""
import sys, time
began = time.perf_counter()
%s
seconds = time.perf_counter() - began
print(seconds, *[name for name in {VENDORS!r} if name in sys.modules])
"""
IMPORTED = {
    "floor": "import anyio.from_thread, pydantic\nclass Model(pydantic.BaseModel): number: int",
    "ours": "import openai_compat",
}
"""Ours, and what its two dependencies cost alone, which is the least that a program with them can take."""


def imports(scale: Scale) -> Iterator[tuple[str, float]]:
    """Seconds in a new interpreter, once the files are in the disk cache."""
    for number in range(scale.imports + 1):
        for name, code in IMPORTED.items():
            seconds, *loaded = _python(IMPORT % code).split()
            if loaded:
                raise RuntimeError(f"{code} loads {', '.join(loaded)}")
            if number:
                yield name, float(seconds)


def _python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=HERE, check=True, capture_output=True, text=True, timeout=60).stdout


MEASURES = (
    Measure("burst", "burst streaming", "events/s", (Target(">=", 6, "floor"),), burst),
    Measure("responses", "responses streaming", "events/s", (Target(">=", 2.5, "floor"),), responses),
    Measure("plain", "plain requests", "req/s", (Target(">=", 0.3, "floor"), Target(">=", 1.5, "handwritten")), plain),
    Measure("paced", "CPU per paced event", "us", (Target("<=", 1.5, "floor"),), paced),
    Measure("idle", "memory per idle stream", "kB", (Target("<=", 2, "floor"),), idle),
    Measure("history", "100 kB history", "req/s", (Target(">=", 1, "handwritten"),), history),
    Measure("import", "import openai_compat", "s", (Target("<=", 0.25),), imports),
)
