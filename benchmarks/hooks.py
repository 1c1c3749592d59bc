"""What it costs to watch turns: CPU time of a chat request in this process, with each kind of hook.

    python benchmarks/hooks.py [--calls 2000]

Prints microseconds for a plain answer and for a stream of 200 pieces, and how much more that is than without a hook. Each
figure is the best of several lots, which take turns: what disturbs can only make a lot slower.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from openai_compat import AgentEvent, Hooks, Server, TurnInfo, TurnOutcome
from openai_compat.http import HttpRequest, ResponseBody, ResponseStart
from openai_compat_adapters.logs import TextFormatter
from openai_compat_adapters.prometheus import Prometheus
from openai_compat_adapters.telemetry import OpenTelemetry

LOTS = 7
PIECES = 200


class Empty(Hooks):
    """Is told of everything, and does nothing."""

    def started(self, turn: TurnInfo) -> None:
        pass

    def event(self, turn: TurnInfo, item: AgentEvent | str) -> None:
        pass

    def ended(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
        pass


class Dropped(SpanProcessor):
    """Takes spans as an exporter would, without sending them."""

    def on_end(self, span: ReadableSpan) -> None:
        """Nothing."""


async def agent(prompt: str) -> AsyncIterator[str]:
    for _ in range(PIECES if prompt == "stream" else 1):
        yield "piece "


def sampled() -> OpenTelemetry:
    """With the SDK: spans that are recorded, and metrics."""
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(Dropped())
    return OpenTelemetry(
        tracer_provider=tracers, meter_provider=MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    )


@dataclass
class Case:
    """A server, and whether its access log is written."""

    name: str
    server: Server
    logged: bool = False


def cases() -> list[Case]:
    """Each kind of hook."""
    made: dict[str, Callable[[], list[Hooks]]] = {
        "no hook": list,
        "empty hook": lambda: [Empty()],
        "OpenTelemetry's API alone": lambda: [OpenTelemetry()],
        "OpenTelemetry, sampled, with metrics": lambda: [sampled()],
        "Prometheus": lambda: [Prometheus()],
    }
    served = [Case(name, Server(agent, hooks=hooks())) for name, hooks in made.items()]
    return [*served, Case("access line", Server(agent), logged=True)]


async def one(server: Server, *, stream: bool) -> None:
    """A request, answered."""
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


async def lot(case: Case, calls: int, *, stream: bool) -> float:
    """Microseconds of a request."""
    logging.getLogger("openai_compat").setLevel("INFO" if case.logged else "WARNING")
    began = time.process_time()
    for _ in range(calls):
        await one(case.server, stream=stream)
    return (time.process_time() - began) / calls * 1e6


async def measure(calls: int) -> None:
    """Print the table."""
    log = logging.StreamHandler(io.StringIO())
    log.setFormatter(TextFormatter())
    logging.getLogger("openai_compat").addHandler(log)
    logging.getLogger("openai_compat").propagate = False
    tried = cases()
    best: dict[tuple[str, bool], float] = {}
    async with AsyncExitStack() as stack:
        for case in tried:
            await stack.enter_async_context(case.server.lifespan())
        for number in range(LOTS + 1):
            for case in tried:
                for stream in (False, True):
                    took = await lot(case, max(calls // LOTS // (10 if stream else 1), 10), stream=stream)
                    if number:  # the first warms up
                        best[case.name, stream] = min(took, best.get((case.name, stream), took))
    plain, streamed = best["no hook", False], best["no hook", True]
    print(f"{'CPU µs of a request':40} {'plain':>8} {'more':>7} {'stream':>8} {'more':>7} {'a piece':>8}")
    for case in tried:
        more, of_stream = best[case.name, False] - plain, best[case.name, True] - streamed
        print(
            f"{case.name:40} {best[case.name, False]:8.0f} {more:7.1f} {best[case.name, True]:8.0f} {of_stream:7.1f}"
            f" {(of_stream - more) / PIECES:8.2f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=3000, help="plain requests of each kind; streams are a tenth")
    asyncio.run(measure(parser.parse_args().calls))
