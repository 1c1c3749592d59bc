"""A measure: one figure for each of several subjects, taken in rounds, and its targets.

Subjects take turns (A B C, A B C, …) and ratios are taken within a round, so that a slow phase of the machine hits all.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Literal

from launch import Running, Start


@dataclass(frozen=True)
class Scale:
    """Size of each measurement."""

    rounds: int
    seconds: float = 2.0
    burst_streams: int = 4
    burst_events: int = 20_000
    connections: int = 8
    long_connections: int = 4
    paced_streams: int = 200
    paced_events: int = 180
    first_streams: int = 250
    idle_streams: int = 500
    idle_sockets: int = 1000
    imports: int = 9
    calls: int = 2000
    clients: int = 32
    turns: int = 10
    longest: int = 10_000
    samples: int = 28


FULL = Scale(rounds=5)
QUICK = Scale(rounds=1, seconds=1.0, imports=3, calls=300, longest=300, samples=12)


@dataclass(frozen=True)
class Target:
    """A bound on one subject's figure: absolute, or a multiple of another subject's figure, or of the better of several.

    With `above` it bounds the difference instead.
    """

    sign: Literal[">=", "<="]
    bound: float
    beside: str | tuple[str, ...] = ""
    of: str = "ours"
    above: bool = False

    @property
    def others(self) -> tuple[str, ...]:
        """Subjects that the figure is compared with."""
        return (self.beside,) if isinstance(self.beside, str) and self.beside else tuple(self.beside)

    def reached(self, value: float) -> bool:
        return value >= self.bound if self.sign == ">=" else value <= self.bound

    def verdict(self, value: float) -> str:
        """Return "reached", or "MISSED" with the distance as a percentage of the bound."""
        return "reached" if self.reached(value) else f"MISSED by {abs(value - self.bound) / self.bound:.0%}"

    def __str__(self) -> str:
        other = "better peer" if len(self.others) > 1 else "".join(self.others)
        beside = f" {'above' if self.above else 'x'} {other}" if other else ""
        text = f"{self.sign} {self.bound:g}{beside}"
        return text if self.of == "ours" else f"{self.of} {text}"


@dataclass
class Measure:
    """One row of a table. `samples` holds the figures of each subject, one per round."""

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

    def figure(self, subject: str) -> float | None:
        """The median of the rounds."""
        return statistics.median(self.samples[subject]) if subject in self.samples else None

    def value(self, target: Target) -> float | None:
        """The value to compare with the target: a figure, or the median of the rounds' ratios or differences.

        Of several other subjects, the hardest to reach counts.
        """
        if target.of not in self.samples or not target.others:
            return self.figure(target.of)
        values: list[float] = []
        for other in target.others:
            pairs = zip(self.samples[target.of], self.samples[other], strict=True)
            values.append(statistics.median([mine - its if target.above else mine / its for mine, its in pairs]))
        return min(values) if target.sign == ">=" else max(values)


starved: list[str] = []
"""Names of servers that should have run at full speed but got less than `ENOUGH` of a CPU, one entry per round."""
ENOUGH = 0.9


@contextmanager
def at_full_speed(server: Running) -> Iterator[None]:
    """Record a server that did not use a full CPU: another process or a slow client limited it, so the figure is not its own."""
    began, before = time.perf_counter(), server.cpu()
    yield
    if server.cpu() - before < ENOUGH * (time.perf_counter() - began):
        starved.append(server.name)


def percentile(values: Sequence[float], part: float) -> float:
    """The `part`-th percentile of the values."""
    return sorted(values)[min(int(len(values) * part / 100), len(values) - 1)]


def each_round(
    servers: Mapping[str, Start], rounds: int, one: Callable[[Running], float]
) -> Iterator[tuple[str, float]]:
    """Start the servers and let them take turns. The first round is a warm-up and does not count."""
    with ExitStack() as stack:
        started = {name: stack.enter_context(start()) for name, start in servers.items()}
        for number in range(rounds + 1):
            for name, server in started.items():
                figure = one(server)
                if number:
                    yield name, figure
