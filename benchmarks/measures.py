"""What is measured, how, and what is to be reached.

Servers take turns (A B C, A B C, …) and ratios are taken within a round, so that a slow spell of the machine hits all.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any, Literal

import load
from launch import HERE, SERVERS, Running, running
from servers.agents import ANSWER, EVENTS_PER_SECOND, PIECE

VENDORS = ("openai", "anthropic", "httpx", "httpx2", "google.genai", "mistralai", "cohere", "starlette", "fastapi")


@dataclass(frozen=True)
class Scale:
    """How much of everything there is to be."""

    rounds: int
    seconds: float = 2.0
    burst_streams: int = 4
    burst_events: int = 20_000
    connections: int = 8
    paced_streams: int = 200
    idle_streams: int = 500
    imports: int = 9


FULL = Scale(rounds=5)
QUICK = Scale(rounds=1, seconds=1.0, imports=3)


@dataclass(frozen=True)
class Target:
    """A bound on our figure: absolute, or as a multiple of that of the server `beside`."""

    sign: Literal[">=", "<="]
    bound: float
    beside: str = ""

    def reached(self, value: float) -> bool:
        return value >= self.bound if self.sign == ">=" else value <= self.bound

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:g}" + (f" x {self.beside}" if self.beside else "")


@dataclass
class Measure:
    """One line of the table. `samples` holds a figure for each round of each server."""

    name: str
    title: str
    unit: str
    targets: tuple[Target, ...]
    run: Callable[[Scale], Iterator[tuple[str, float]]]
    samples: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    def take(self, scale: Scale) -> None:
        """Run all rounds."""
        for server, figure in self.run(scale):
            self.samples.setdefault(server, []).append(figure)

    def figure(self, server: str) -> float | None:
        """The median of the rounds."""
        return statistics.median(self.samples[server]) if server in self.samples else None

    def ratio(self, beside: str) -> float:
        """The median of the rounds' ratios of our figure to the other server's."""
        pairs = zip(self.samples["ours"], self.samples[beside], strict=True)
        return statistics.median([ours / other for ours, other in pairs])

    def value(self, target: Target) -> float:
        """What the target is about."""
        return self.ratio(target.beside) if target.beside else statistics.median(self.samples["ours"])


def check() -> None:
    """All servers must say the same before their speed is worth anything."""
    for name in SERVERS:
        with running(name) as server:
            assert _ask(server, "plain")["choices"][0]["message"]["content"] == ANSWER, name
            assert "".join(_streamed(server, "burst", 3)) == PIECE * 3, name


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


starved: list[str] = []
"""Servers that were to work as fast as they can, and had less than `ENOUGH` of a CPU, once for each round."""
ENOUGH = 0.9


@contextmanager
def _at_full_speed(server: Running) -> Iterator[None]:
    """Notes when something else took the CPU away, or the client was too slow: the figure is then not the server's."""
    began, before = time.perf_counter(), server.cpu()
    yield
    if server.cpu() - before < ENOUGH * (time.perf_counter() - began):
        starved.append(server.name)


def _each_round(servers: Sequence[str], rounds: int, one: Callable[[Running], float]) -> Iterator[tuple[str, float]]:
    """Start the servers and let them take turns. The first round warms them up and does not count."""
    with ExitStack() as stack:
        started = [stack.enter_context(running(name)) for name in servers]
        for number in range(rounds + 1):
            for server in started:
                figure = one(server)
                if number:
                    yield server.name, figure


def burst(scale: Scale) -> Iterator[tuple[str, float]]:
    message = load.request("burst", _prompt(scale.burst_events), stream=True)

    async def events_per_second(server: Running) -> float:
        events, began = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - began) < scale.seconds:
            streams = await load.open_streams(server.port, message, scale.burst_streams)
            await load.ended(streams)
            events += sum([stream.events for stream in streams])
        return events / elapsed

    def one(server: Running) -> float:
        with _at_full_speed(server):
            return asyncio.run(events_per_second(server))

    return _each_round(SERVERS, scale.rounds, one)


def plain(scale: Scale) -> Iterator[tuple[str, float]]:
    return _requests(scale, SERVERS, load.request("plain", _prompt("hello")))


def history(scale: Scale) -> Iterator[tuple[str, float]]:
    return _requests(scale, SERVERS, load.request("history", _long_history()))


def _requests(scale: Scale, servers: Sequence[str], message: bytes) -> Iterator[tuple[str, float]]:
    def one(server: Running) -> float:
        count = load.requests_per_second(server.port, message, connections=scale.connections, seconds=scale.seconds)
        with _at_full_speed(server):
            return asyncio.run(count)

    return _each_round(servers, scale.rounds, one)


def paced(scale: Scale) -> Iterator[tuple[str, float]]:
    """CPU per event in microseconds, in a stretch of time in which all streams are open and none ends."""
    events = int(EVENTS_PER_SECOND * (scale.seconds + 4))
    message = load.request("paced", _prompt(events), stream=True)

    async def cpu_per_event(server: Running) -> float:
        streams = await load.open_streams(server.port, message, scale.paced_streams)
        began, before = server.cpu(), sum([stream.events for stream in streams])
        await asyncio.sleep(scale.seconds)
        used, after = server.cpu() - began, sum([stream.events for stream in streams])
        assert not any([stream.done.done() for stream in streams]), "a stream ended while it was measured"
        for stream in streams:
            stream.close()
        await asyncio.sleep(0.5)  # the server notices that they have left
        return used / (after - before) * 1e6

    return _each_round(SERVERS, scale.rounds, lambda server: asyncio.run(cpu_per_event(server)))


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
    Measure("plain", "plain requests", "req/s", (Target(">=", 0.3, "floor"), Target(">=", 1.5, "handwritten")), plain),
    Measure("paced", "CPU per paced event", "us", (Target("<=", 1.5, "floor"),), paced),
    Measure("idle", "memory per idle stream", "kB", (Target("<=", 2, "floor"),), idle),
    Measure("history", "100 kB history", "req/s", (Target(">=", 1, "handwritten"),), history),
    Measure("import", "import openai_compat", "s", (Target("<=", 0.25),), imports),
)
