"""Measures of streams and plain answers, with their targets."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from http.client import HTTPConnection
from typing import Any

import load
from launch import HERE, SERVERS, Running, Start, served
from measure import Measure, Scale, Target, at_full_speed, each_round, percentile
from servers.agents import ANSWER, PIECE

WITH_RESPONSES = {name: SERVERS[name] for name in ("floor", "ours")}
WITH_SERVE = SERVERS | {"serve": partial(served, "ours")}
PEERS = ("handwritten", "peer")
VENDORS = ("openai", "anthropic", "httpx", "httpx2", "google.genai", "mistralai", "cohere", "starlette", "fastapi")


def check() -> None:
    """Check that all servers give the same answers: otherwise their speeds cannot be compared."""
    for name, start in WITH_SERVE.items():
        with start() as server:
            for model, messages in (("plain", _prompt("hello")), ("history", LONG), ("history", LONGER)):
                assert _answer(server, load.request(model, messages)) == ANSWER, name
            assert "".join(_streamed(server, "burst", 3)) == PIECE * 3, name
    sizes = [_size_of_response(start) for start in WITH_RESPONSES.values()]
    assert max(sizes) < min(sizes) * 1.01, f"not the same bytes: {sizes}"


def _size_of_response(start: Start) -> int:
    """Bytes of a stream that is so long that only its deltas matter."""
    with start() as server:
        return len(_post(server, load.response_request(20_000)))


def _answer(server: Running, message: bytes) -> str:
    return json.loads(_post(server, message))["choices"][0]["message"]["content"]


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


TEXT = ("It was the best of times, it was the worst of times. " * 10)[:480]


def _long_history() -> load.Messages:
    """About 100 kB in 201 messages."""
    turns = [{"role": role, "content": TEXT} for _ in range(100) for role in ("user", "assistant")]
    return [*turns, *_prompt("And then?")]


def _longer_history() -> load.Messages:
    """About 1 MB in 2,001 messages, of which 500 are tool calls and 500 their results."""
    messages: list[dict[str, Any]] = []
    for number in range(500):
        call = {"id": f"call_{number}", "type": "function", "function": {"name": "look_up", "arguments": '{"page": 1}'}}
        messages += [
            {"role": "user", "content": TEXT},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"call_{number}", "content": TEXT * 2},
            {"role": "assistant", "content": TEXT},
        ]
    return [*messages, *_prompt("And then?")]


LONG = _long_history()
LONGER = _longer_history()


def burst(scale: Scale) -> Iterator[tuple[str, float]]:
    return _streams(scale, SERVERS, load.request("burst", _prompt(scale.burst_events), stream=True))


def responses(scale: Scale) -> Iterator[tuple[str, float]]:
    return _streams(scale, WITH_RESPONSES, load.response_request(scale.burst_events))


def _streams(scale: Scale, servers: Mapping[str, Start], message: bytes) -> Iterator[tuple[str, float]]:
    def one(server: Running) -> float:
        with at_full_speed(server):
            return load.run(events_per_second(server, message, scale))

    return each_round(servers, scale.rounds, one)


async def events_per_second(server: Running, message: bytes, scale: Scale) -> float:
    """Events per second of several concurrent streams, repeated until the time is up."""
    events, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < scale.seconds:
        streams = await load.open_streams(server.port, message, scale.burst_streams)
        await load.ended(streams)
        events += sum([stream.events for stream in streams])
    return events / elapsed


def plain(scale: Scale) -> Iterator[tuple[str, float]]:
    return _requests(scale, WITH_SERVE, load.request("plain", _prompt("hello")), scale.connections)


def history(scale: Scale, messages: load.Messages) -> Iterator[tuple[str, float]]:
    return _requests(scale, SERVERS, load.request("history", messages), scale.long_connections)


def _requests(
    scale: Scale, servers: Mapping[str, Start], message: bytes, connections: int
) -> Iterator[tuple[str, float]]:
    def one(server: Running) -> float:
        count = load.requests_per_second(server.port, message, connections=connections, seconds=scale.seconds)
        with at_full_speed(server):
            return load.run(count)

    return each_round(servers, scale.rounds, one)


def history_p99(scale: Scale) -> Iterator[tuple[str, float]]:
    """Milliseconds, at the load of the requests-per-second measure."""
    message = load.request("history", LONG)

    def one(server: Running) -> float:
        taken = load.latencies(server.port, message, connections=scale.long_connections, seconds=scale.seconds)
        with at_full_speed(server):
            return percentile(load.run(taken), 99) * 1000

    return each_round(SERVERS, scale.rounds, one)


FEW = load.request("burst", _prompt(20), stream=True)


def first_token(scale: Scale) -> Iterator[tuple[str, float]]:
    """The median in milliseconds, for one client with an open connection."""

    def one(server: Running) -> float:
        return statistics.median(load.run(load.first_tokens(server.port, FEW, seconds=scale.seconds))) * 1000

    return each_round(SERVERS, scale.rounds, one)


def first_token_p99(scale: Scale) -> Iterator[tuple[str, float]]:
    """The 99th percentile of the same, together with our median (`p50`)."""
    medians: list[float] = []

    def one(server: Running) -> float:
        taken = load.run(load.first_tokens(server.port, FEW, seconds=scale.seconds))
        medians.append(statistics.median(taken) * 1000)
        return percentile(taken, 99) * 1000

    for name, figure in each_round(SERVERS, scale.rounds, one):
        yield name, figure
        if name == "ours":
            yield "p50", medians[-1]


def paced(scale: Scale) -> Iterator[tuple[str, float]]:
    """Microseconds of CPU per event of whole streams, including their start and end."""
    message = load.request("paced", _prompt(scale.paced_events), stream=True)

    async def of_streams(server: Running) -> float:
        before = server.cpu()
        streams = await load.open_streams(server.port, message, scale.paced_streams)
        await load.ended(streams)
        return (server.cpu() - before) / (scale.paced_streams * scale.paced_events) * 1e6

    return each_round(SERVERS, scale.rounds, lambda server: load.run(of_streams(server)))


async def cpu_per_event(server: Running, message: bytes, scale: Scale, *, to_the_end: bool = False) -> float:
    """Microseconds of CPU per event, while all streams are open and none ends."""
    streams = await load.open_streams(server.port, message, scale.paced_streams)
    began, before = server.cpu(), sum([stream.events for stream in streams])
    await asyncio.sleep(scale.seconds)
    used, after = server.cpu() - began, sum([stream.events for stream in streams])
    assert not any([stream.done.done() for stream in streams]), "a stream ended while it was measured"
    if to_the_end:
        await load.ended(streams)
    for stream in streams:
        stream.close()
    await asyncio.sleep(0.5)  # gives the server time to notice the disconnects
    return used / (after - before) * 1e6


def idle(scale: Scale) -> Iterator[tuple[str, float]]:
    """Memory in kB per open, silent stream, beyond that of a server with a few streams.

    The first streams reuse memory freed after the imports, and would seem cheaper.
    """
    message = load.request("idle", _prompt(1), stream=True)

    async def kilobytes_per_stream(server: Running) -> float:
        warm = await load.open_streams(server.port, message, scale.first_streams)
        before = server.memory()
        streams = await load.open_streams(server.port, message, scale.idle_streams)
        after = server.memory()
        for stream in [*warm, *streams]:
            stream.close()
        return (after - before) / len(streams) / 1000

    for _ in range(scale.rounds):
        for name, start in SERVERS.items():
            with start() as server:  # freed memory stays with the process: start a new one for each figure
                yield name, load.run(kilobytes_per_stream(server))


IMPORT = f"""
import sys, time
%s
print(time.process_time(), *[name for name in {VENDORS!r} if name in sys.modules])
"""
IMPORTED = {
    "floor": "import anyio.from_thread, pydantic\nclass Model(pydantic.BaseModel): number: int",
    "handwritten": "import fastapi, openai.types.chat",
    "peer": "import fastapi_openai_compat",
    "ours": "import openai_compat",
}
"""Import statements: ours, our two dependencies alone, which are the minimum, and the peers."""


def imports(scale: Scale) -> Iterator[tuple[str, float]]:
    """CPU seconds of an interpreter that only imports. The first round compiles the files, and does not count."""
    for number in range(scale.imports + 1):
        for name, code in IMPORTED.items():
            seconds, *loaded = _python("-c", IMPORT % code).split()
            if loaded and name == "ours":
                raise RuntimeError(f"{code} loads {', '.join(loaded)}")
            if number:
                yield name, float(seconds)


def in_process(scale: Scale, *, kind: str) -> Iterator[tuple[str, float]]:
    """Microseconds of CPU per unstored Responses request: see in_process.py."""
    for _ in range(scale.rounds):
        yield "ours", float(_python("in_process.py", kind, str(scale.calls)))


def _python(*arguments: str) -> str:
    # without bytecode files, each run would compile everything again
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=HERE, env=kept, check=True, capture_output=True, text=True, timeout=60).stdout


MEASURES = (
    Measure(
        "plain",
        "plain requests",
        "req/s",
        (Target(">=", 1.15, PEERS), Target(">=", 0.85, "ours", of="serve")),
        plain,
    ),
    Measure("history", "100 kB of history", "req/s", (Target(">=", 1.1, PEERS),), partial(history, messages=LONG)),
    Measure("history-p99", "100 kB of history, p99", "ms", (Target("<=", 3),), history_p99),
    Measure("long", "1 MB of history", "req/s", (Target(">=", 1, PEERS),), partial(history, messages=LONGER)),
    Measure("burst", "burst streaming", "events/s", (Target(">=", 5.8, "floor"),), burst),
    Measure("responses", "Responses streaming", "events/s", (Target(">=", 2.5, "floor"),), responses),
    Measure("paced", "CPU of a paced event", "us", (Target("<=", 1.6, "floor"), Target("<=", 1, PEERS)), paced),
    Measure("idle", "memory of an idle stream", "kB", (Target("<=", 30),), idle),
    Measure("ttft", "first token, p50", "ms", (Target("<=", 1, PEERS),), first_token),
    Measure("ttft-p99", "first token, p99", "ms", (Target("<=", 2, "p50"),), first_token_p99),
    Measure("import", "import openai_compat", "s CPU", (Target("<=", 0.24),), imports),
    Measure("in-process", "Responses in-process", "us CPU", (Target("<=", 250),), partial(in_process, kind="plain")),
    Measure(
        "in-process-stream", "Responses, streamed", "us CPU", (Target("<=", 290),), partial(in_process, kind="streamed")
    ),
)
