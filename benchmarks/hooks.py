"""Cost of watching turns: CPU time of a chat request in this process, with each kind of hook.

    python benchmarks/hooks.py [--rounds 400]

Prints microseconds for a plain answer and for a stream of 200 pieces, how much more they are than without a hook, and the
target. Each figure is that of the fastest of many small alternating batches: interference can only slow a batch down. `more` is
scaled to the reference machine of the targets, by a calibration loop that runs between the measurements: see machine.py.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

from machine import Machine, fast
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from openai_compat import AgentEvent, Hooks, Server, TurnInfo, TurnOutcome
from openai_compat.http import HttpRequest, ResponseBody, ResponseStart
from openai_compat_adapters.logs import JsonFormatter, LineHandler, TextFormatter
from openai_compat_adapters.prometheus import Prometheus
from openai_compat_adapters.telemetry import OpenTelemetry

PIECES = 200
PLAIN, STREAMS = 6, 3
"""Requests per batch: about a millisecond, which is rarely interrupted."""

WARM = 2
"""Unmeasured requests before each batch: a real server does not serve six other kinds of requests in between, which would evict
the data of this kind from the CPU cache.
"""


class Empty(Hooks):
    """Receives every event, and does nothing."""

    def started(self, turn: TurnInfo) -> None:
        pass

    def event(self, turn: TurnInfo, item: AgentEvent | str) -> None:
        pass

    def ended(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
        pass


class Dropped(SpanProcessor):
    """Receives spans as an exporter would, without sending them."""

    def on_end(self, span: ReadableSpan) -> None:
        """Do nothing."""


async def agent(prompt: str) -> AsyncIterator[str]:
    for _ in range(PIECES if prompt == "stream" else 1):
        yield "piece "


def sampled() -> OpenTelemetry:
    """With the SDK: recorded spans, and metrics."""
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(Dropped())
    return OpenTelemetry(
        tracer_provider=tracers, meter_provider=MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    )


@dataclass
class Case:
    """A server, the extra cost allowed for its turns, and the format of its access log, if any.

    `plain` and `piece` are microseconds more than without hooks: for a plain answer, and on top for each piece of a stream.
    """

    name: str
    server: Server
    plain: float | None = None
    piece: float | None = None
    line: logging.Formatter | None = None


def cases() -> list[Case]:
    """One case for each kind of hook and of log line.

    The log lines use the server without hooks and run right after it, so that only the line differs.
    """
    plain = Server(agent)
    return [
        Case("no hook", plain),
        Case("access line, text", plain, 15, line=TextFormatter()),
        Case("access line, JSON", plain, 15, line=JsonFormatter()),
        Case("empty hook", Server(agent, hooks=[Empty()]), 5 + 2 * 0.4, 0.4),
        Case("OpenTelemetry's API alone", Server(agent, hooks=[OpenTelemetry()]), 50),
        Case("OpenTelemetry, sampled, with metrics", Server(agent, hooks=[sampled()]), 300, 0.5),
        Case("Prometheus", Server(agent, hooks=[Prometheus()])),
    ]


async def one(server: Server, *, stream: bool) -> None:
    """Send a request, and check its answer."""
    said = "stream" if stream else "plain"
    body = json.dumps({"model": "agent", "stream": stream, "messages": [{"role": "user", "content": said}]}).encode()
    got = 0

    async def pieces() -> AsyncIterator[bytes]:
        yield body

    async def send(message: ResponseStart | ResponseBody) -> None:
        nonlocal got
        if isinstance(message, ResponseBody):
            got += len(message.data)
        else:
            assert message.status == 200

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    await server.handle(HttpRequest("POST", "/v1/chat/completions", "", headers, pieces()), send, lambda: True)
    assert got


async def lot(case: Case, log: logging.Handler, *, stream: bool) -> float:
    """Microseconds per request."""
    logging.getLogger("openai_compat").setLevel("WARNING" if case.line is None else "INFO")
    log.setFormatter(case.line)
    calls = STREAMS if stream else PLAIN
    for _ in range(WARM):
        await one(case.server, stream=stream)
    await asyncio.sleep(0)
    began = time.process_time()
    for _ in range(calls):
        await one(case.server, stream=stream)
    await asyncio.sleep(0)  # the agents' tasks end in the next step of the loop
    return (time.process_time() - began) / calls * 1e6


async def measure(rounds: int) -> None:
    """Measure all cases, and print the table."""
    log = LineHandler(io.StringIO())
    logging.getLogger("openai_compat").addHandler(log)
    logging.getLogger("openai_compat").propagate = False
    tried, machine = cases(), Machine()
    lots: dict[tuple[str, bool], list[float]] = {}
    async with AsyncExitStack() as stack:
        for server in {case.server for case in tried}:
            await stack.enter_async_context(server.lifespan())
        for number in range(rounds + 1):
            machine.look()
            for case in tried:
                for stream in (False, True):
                    took = await lot(case, log, stream=stream)
                    if number:  # the first round warms up
                        lots.setdefault((case.name, stream), []).append(took)
    best = {key: fast(found) for key, found in lots.items()}
    print(machine)
    print(
        f"{'CPU µs of a request':40} {'plain':>8} {'more':>7} {'wanted':>7} {'stream':>8} {'a piece':>8} {'wanted':>7}"
    )
    for case in tried:
        plain, streamed = best[case.name, False], best[case.name, True]
        more = machine.scaled(plain - best["no hook", False])
        piece = (machine.scaled(streamed - best["no hook", True]) - more) / PIECES
        print(
            f"{case.name:40} {plain:8.0f} {more:7.1f} {case.plain or '':>7} {streamed:8.0f} {piece:8.2f} {case.piece or '':>7}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=400, help="batches of each kind of hook")
    asyncio.run(measure(parser.parse_args().rounds))
