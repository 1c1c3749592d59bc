"""Open-loop load, from a tenth of the server's capacity to three times as much: where is the knee of the curve?

    python benchmarks/knee.py                                  about eight minutes
    python benchmarks/knee.py --quick                          few loads, short: good for a look, not for a claim
    python benchmarks/knee.py --only streams                   one of plain, streams, plain-sqlite, streams-sqlite, working
    python benchmarks/knee.py --pictures docs/explanation      draw the curves: knee-plain.svg and so on
    python benchmarks/knee.py --markdown                       print the tables for the documentation, at the end

The server has its default limits: 128 turns at once, the others get 429. A plain answer waits for 0.2 s, as for a model; a
stream says 20 pieces, 50 per second; for both, the slots run out first. A working agent keeps the CPU busy for 1 ms and
answers: there the CPU runs out first. Without a store these are chat completions, with SQLite stored responses.
The capacity, 100 %, is measured first, by as many clients as there are slots, each of which sends its next request once it was
answered. Then requests arrive at random times, at a given average rate, each over a free connection or a new one. Latency
counts from the time when a request was due to its answer, or to a stream's first token.

After each load all answers are awaited; answered/s is the rate at which they arrive, late ones included. Half of the capacity
follows directly on the highest load: how long until nothing is refused and the median is back to normal? Then the highest
load is repeated: does the server need more memory than the first time?

Targets: nothing lost (each request gets a whole answer, or 429 with Retry-After; stored responses exist), no more memory the
second time (at most a tenth), back to normal within 2 s.

The server has one core, this program another. Linux only. Needs the extra `test` and the dependency group `bench`.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path

import chart
import launch
import load
from launch import Running, cores_apart, running, served
from measure import percentile
from open_loop import Client, Exchange, over

from openai_compat import Limits

PIECES = 20
TITLES = {
    "plain": "plain answers",
    "streams": "streams",
    "plain-sqlite": "plain answers, stored in SQLite",
    "streams-sqlite": "streams, stored in SQLite",
    "working": "agents that compute",
}
RECOVERY = 50
"""Load after the highest one, in percent of the capacity."""
WINDOW = 0.25
"""Length of the windows into which the time after the highest load is divided, in seconds."""
SLOWER = 1.5
"""A window counts as slow above this multiple of the earlier median."""
LATE = 5.0
"""Milliseconds. If more than 1 % of the requests are sent later than this, the client was too slow."""
_ID = re.compile(rb'"(resp_\w+)"')


@dataclass(frozen=True)
class Scale:
    """Loads in percent of the capacity, and the seconds that each lasts."""

    loads: tuple[int, ...] = (10, 25, 50, 75, 90, 100, 110, 125, 150, 200, 250, 300)
    seconds: float = 5.0


QUICK = Scale((25, 50, 100, 300), 1.5)


@dataclass(frozen=True)
class Point:
    """Results of one load. Rates are per second, latencies in milliseconds, memory in MB."""

    percent: float
    asked: float
    answered: float
    refused: float
    lost: int
    p50: float
    p99: float
    refusal_p99: float | None
    memory: float
    late: float
    """99th percentile of the client's delay in sending a request, in milliseconds after it was due."""


@dataclass
class Curve:
    """All points of one kind of request, and the results after the last."""

    name: str
    capacity: float
    points: list[Point]
    recovery: float
    """Seconds until the server was back to normal, or the length of the observation."""
    again: Point
    """The highest load, repeated."""
    missing: int
    """Responses that are missing in the store, plus requests lost after the highest load."""

    @property
    def lost(self) -> int:
        return sum([point.lost for point in (*self.points, self.again)]) + self.missing

    @property
    def growth(self) -> float:
        return self.again.memory / self.points[-1].memory


def _message(name: str) -> bytes:
    kind, _, store = name.partition("-")
    if store:
        return load.post("/v1/responses", {"model": kind, "input": str(PIECES), "stream": kind == "streams"})
    return load.request(kind, [{"role": "user", "content": str(PIECES)}], stream=kind == "streams")


@contextmanager
def _server(name: str, start: Callable[..., AbstractContextManager[Running]]) -> Iterator[Running]:
    with tempfile.TemporaryDirectory() as directory:
        store = {"STORE": f"sqlite:///{directory}/state.db"} if name.endswith("sqlite") else {}
        with start("knee", **store) as server:
            yield server


async def curve(name: str, server: Running, scale: Scale) -> Curve:
    """Load a fresh server."""
    client, chance = Client(server.port, _message(name)), random.Random(1)
    await client.in_turn(Limits().slots, 1)  # warm-up: the first requests are slow
    capacity = await client.in_turn(Limits().slots, scale.seconds)
    points: list[Point] = []
    given: list[str] = []
    after: list[Exchange] = []
    for percent in (*scale.loads, scale.loads[-1]):
        exchanges = await client.at(capacity * percent / 100, scale.seconds, chance)
        if percent == scale.loads[-1] and not after:
            after = await client.at(capacity * RECOVERY / 100, 2 * scale.seconds, chance)
        await over([*exchanges, *after])
        points.append(_point(percent, exchanges, scale.seconds, server))
        given += _stored(exchanges) if name.endswith("sqlite") else ()
    client.close()
    missing = _missing(server, given) + _lost(after)
    calm = next(point for point in points if point.percent == RECOVERY)
    return Curve(name, capacity, points[:-1], _recovery(after, calm.p50), points[-1], missing)


def _point(percent: float, exchanges: list[Exchange], seconds: float, server: Running) -> Point:
    answered = [exchange for exchange in exchanges if exchange.answered]
    refused = [exchange for exchange in exchanges if exchange.refused]
    ends = [exchange.end for exchange in (*answered, *refused)]
    took = max(ends) - min(ends)
    latencies = [exchange.first - exchange.due for exchange in answered]
    refusals = [exchange.end - exchange.due for exchange in refused]
    late = [exchange.begun - exchange.due for exchange in exchanges]
    return Point(
        percent,
        asked=len(exchanges) / seconds,
        answered=len(answered) / took,
        refused=len(refused) / took,
        lost=_lost(exchanges),
        p50=percentile(latencies, 50) * 1000,
        p99=percentile(latencies, 99) * 1000,
        refusal_p99=percentile(refusals, 99) * 1000 if refusals else None,
        memory=server.memory() / 1e6,
        late=percentile(late, 99) * 1000,
    )


def _lost(exchanges: Sequence[Exchange]) -> int:
    lost = [exchange for exchange in exchanges if exchange.lost or _cut_short(exchange)]
    for exchange in lost[:3]:
        print(f"lost: {exchange.error or exchange.answer[:300]!r}", file=sys.stderr)
    return len(lost)


def _cut_short(exchange: Exchange) -> bool:
    """True if a stream lacks some of its pieces."""
    return exchange.answered and b"text/event-stream" in exchange.answer and exchange.answer.count(load.TOKEN) < PIECES


def _recovery(after: Sequence[Exchange], calm: float) -> float:
    """Seconds until the end of the last window with refusals or with a median well above the calm one."""
    began = after[0].due
    windows: dict[int, list[Exchange]] = {}
    for exchange in after:
        windows.setdefault(int((exchange.due - began) / WINDOW), []).append(exchange)
    disturbed = 0
    for number, exchanges in windows.items():
        latencies = [exchange.first - exchange.due for exchange in exchanges if exchange.answered]
        if len(latencies) < len(exchanges) or statistics.median(latencies) * 1000 > SLOWER * calm:
            disturbed = number + 1
    return disturbed * WINDOW


def _stored(exchanges: Sequence[Exchange]) -> list[str]:
    """Ids of a sample of the returned responses."""
    answered = [exchange.answer for exchange in exchanges if exchange.answered]
    found = [_ID.search(answer) for answer in answered[:: max(len(answered) // 50, 1)]]
    return [match[1].decode() for match in found if match]


def _missing(server: Running, identifiers: Sequence[str]) -> int:
    """Number of these responses that are not in the store."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    missing = 0
    for identifier in identifiers:
        connection.request("GET", f"/v1/responses/{identifier}")
        answer = connection.getresponse()
        missing += b'"completed"' not in answer.read()
    return missing


HEAD = ("load", "asked/s", "answered/s", "refused/s", "lost", "p50, ms", "p99, ms", "refusal p99, ms", "memory, MB")


def _cells(point: Point) -> list[str]:
    refusal = "" if point.refusal_p99 is None else f"{point.refusal_p99:.1f}"
    rates = [f"{rate:,.0f}" for rate in (point.asked, point.answered, point.refused)]
    latencies = [f"{point.p50:.1f}", f"{point.p99:.1f}", refusal]
    return [f"{point.percent:g} %", *rates, str(point.lost), *latencies, f"{point.memory:.1f}"]


def _print(curve: Curve) -> None:
    print(f"\n{curve.name}: 100 % is {curve.capacity:,.0f}/s")
    for row in (HEAD, *[_cells(point) for point in curve.points]):
        print("".join([f"{cell:>16}" for cell in row]))
    print("; ".join([f"{what} {figure} ({verdict})" for what, figure, verdict in _verdicts(curve)]))
    late = [f"{point.late:,.0f} ms at {point.percent:g} %" for point in curve.points if point.late > LATE]
    if late:
        print(f"Doubtful: the client, or the machine, was too slow to ask in time ({', '.join(late)}).")


def _verdicts(curve: Curve) -> list[tuple[str, str, str]]:
    """Target, result and verdict of each check."""
    most = max([point.answered for point in curve.points])

    def verdict(reached: bool) -> str:
        return "reached" if reached else "MISSED"

    return [
        ("requests lost", str(curve.lost), verdict(not curve.lost)),
        ("memory after the highest load, second time to first", f"{curve.growth:.2f} x", verdict(curve.growth <= 1.1)),
        ("seconds until all is as before it", f"{curve.recovery:g}", verdict(curve.recovery <= 2)),
        ("answers at the highest load to the most", f"{curve.points[-1].answered / most:.2f}", "no target"),
    ]


def _print_markdown(curves: Sequence[Curve]) -> None:
    names = [what for what, _, _ in _verdicts(curves[0])]
    print("\n| requests | 100 % is |", " | ".join(names), "|")
    print("|---" * (len(names) + 2) + "|")
    for each in curves:
        figures = [f"{figure} ({verdict})" for _, figure, verdict in _verdicts(each)]
        print(f"| {TITLES[each.name]} | {each.capacity:,.0f}/s |", " | ".join(figures), "|")


def _picture(curve: Curve) -> str:
    x = [point.percent for point in curve.points]
    rates: dict[str, Sequence[float | None]] = {
        "asked": [point.asked for point in curve.points],
        "answered": [point.answered for point in curve.points],
        "refused": [point.refused for point in curve.points],
    }
    latencies: dict[str, Sequence[float | None]] = {
        "p50": [point.p50 for point in curve.points],
        "p99": [point.p99 for point in curve.points],
        "p99 of refusals": [point.refusal_p99 for point in curve.points],
    }
    what = "first token" if curve.name.startswith("streams") else "answer"
    panels = [
        chart.Panel(TITLES[curve.name], "requests/s", x, rates),
        chart.Panel(f"time to the {what}", "ms", x, latencies, logarithmic=True),
    ]
    return chart.drawn(panels, "load, % of what the server can do")


def main() -> None:
    """Measure each kind of request, and print its table at once."""
    options = _options()
    scale = QUICK if options.quick else Scale()
    if sys.platform != "linux":
        sys.exit("the benchmark reads /proc: Linux only")
    curves: list[Curve] = []
    launch.PROGRAM |= {"--http": options.http, "--loop": options.loop}
    with cores_apart():
        for name in options.only or TITLES:
            with _server(name, served if options.serve else running) as server:
                curves.append(load.run(curve(name, server, scale)))
            _print(curves[-1])
    if options.pictures:
        for each in curves:
            (options.pictures / f"knee-{each.name}.svg").write_text(_picture(each))
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in curves], indent=2) + "\n")
    if options.markdown:
        _print_markdown(curves)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few loads, short")
    parser.add_argument(
        "--only", action="append", choices=list(TITLES), help="one kind of request; can be given several times"
    )
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write the curves as SVG files to a folder")
    launch.add_options(parser)
    parser.add_argument(
        "--serve", action="store_true", help="run the server in `openai-compat serve` instead of uvicorn"
    )
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown at the end")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
