"""Our server compared with three others: the ASGI server's own limit, a hand-written server, and a package.

    python benchmarks/run.py                      everything, about twenty minutes
    python benchmarks/run.py --quick              one short round of everything: good for a look, not for a claim
    python benchmarks/run.py --only burst         one measure; can be given several times
    python benchmarks/run.py --markdown           print the tables for the documentation, at the end
    python benchmarks/run.py --json before.json   also write the figures of every round, to compare two states of the code

measures
  plain       small requests, 8 keep-alive connections: answers per second; serve is `openai-compat serve`
  history     201 messages, 100 kB, 4 connections: answers per second
  history-p99 99th percentile of the latency at that load
  long        2,001 messages, 1 MB, 500 of them tool calls and 500 their results: answers per second
  burst       agents that never pause: events per second over 4 streams of 20,000 short texts
  responses   the same over the Responses API; the floor writes the same bytes
  paced       200 streams, 50 events per second each, 180 events: the server's CPU time per event
  idle        500 more streams that have said one thing and wait, on a new server that has 250: its memory per stream
  ttft, ttft-p99
              time to first token, one stream after the other on one connection: median and 99th percentile;
              the target of the second is a multiple of our median (p50)
  import      CPU time of a Python that runs `import openai_compat`, which must load no vendor SDK and no web framework;
              floor is pydantic and anyio alone, handwritten FastAPI and the openai package's types
  in-process, in-process-stream
              CPU time of an unstored request of the Responses API, 20 pieces, without a socket: see in_process.py

measures of stored turns, on each engine
  turn            one client, the store alone: lock a conversation, read it, commit a question and an answer; disk: how
                  many 4 kB writes per second the disk makes durable, which a durable commit waits for
  turn-cpu        CPU time of such a turn
  turns           32 clients
  http-turn, http-turn-cpu, http-turns
                  the same over HTTP: stored plain responses in a conversation, of an agent that answers at once
  http-turns-16   16 clients
  store-thread    share of the time for which the thread that writes to the SQLite file is busy at that load
  curve           a turn at the end of a conversation of 10,000, relative to one of the first, without reading the history;
                  below the table, the cost of turn n
  log             streams of agents that never pause, with an event log (background) relative to those without
  log-cpu         CPU time per event of 200 paced streams, with a log relative to those without
  workers         two processes on one PostgreSQL relative to one, 32 clients; needs a CPU for each process, one for
                  PostgreSQL and one for the client
  workers-cpu     CPU time of a turn with four processes relative to that with one

measures of the chat WebSocket, with `ours` in uvicorn and in `openai-compat serve`, and of the tool loop
  socket      agents that never pause: events per second over 4 sockets, 20,000 short texts each
  socket-cpu  events per second of the server's CPU time
  idle-socket 1,000 sockets without any message: the server's memory per socket
  tools       CPU time per roundtrip of the tool loop, in this process, with a model that costs nothing: one call each,
              five in a turn
  tools-many  the same with four calls each, 20 in a turn

servers (benchmarks/servers/), each alone in a uvicorn process: httptools and uvloop unless --http and --loop say otherwise
  floor         raw ASGI, precomputed bytes, one send per event; reads no JSON
  handwritten   FastAPI and the types of the openai package
  peer          FastAPI and the package fastapi-openai-compat
  ours          Server and create_app, as in the README
  stateful      the same with a store; PostgreSQL is started for the benchmark, with its default settings
  bare_socket   a Starlette WebSocket that sends the same frames one by one, with json.dumps
  chat_websocket   ours with a chat WebSocket; also in `openai-compat serve`

The server has one core and the load client another, except for stored turns, where PostgreSQL needs one as well.
Figures are medians of rounds in which the servers take turns. The targets are about ratios, which carry over to other
machines; the figures do not. `better peer` is the better of handwritten and peer in that row.
No result fails the run: the exit status is 0 unless something breaks.
Linux only (CPU time and memory are read from /proc). Needs the extra `test` and the dependency group `bench`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import chat
import engines
import launch
import measures
import state
from measure import ENOUGH, FULL, QUICK, Measure, Scale, starved

PACKAGES = (
    "uvicorn", "httptools", "h11", "uvloop", "starlette", "pydantic", "anyio",
    "fastapi", "fastapi-openai-compat", "openai", "asyncpg",
)  # fmt: skip
MEASURES = (*measures.MEASURES, *state.MEASURES, *chat.MEASURES)
ROW = "{:24} {:9}" + " {:>11}" * 5 + "  {}"


@dataclass(frozen=True)
class Table:
    """Measures of the same subjects, which are the columns."""

    measures: Sequence[Measure]
    columns: tuple[str, ...]
    cores_apart: bool = True


TABLES = (
    Table(measures.MEASURES, tuple(measures.WITH_SERVE)),
    Table(state.MEASURES, (*engines.ENGINES, "disk"), cores_apart=False),
    Table(chat.MEASURES, tuple(chat.STARTED)),
)


def main() -> None:
    """Take each measure, and print its row at once."""
    options = _options()
    launch.PROGRAM |= {"--http": options.http, "--loop": options.loop}
    scale = QUICK if options.quick else FULL
    if options.rounds:
        scale = replace(scale, rounds=options.rounds)
    chosen = [measure for measure in MEASURES if not options.only or measure.name in options.only]
    if sys.platform != "linux":
        sys.exit("the benchmark reads /proc: Linux only")
    if any([measure in chosen for measure in measures.MEASURES]):
        measures.check()
    tables = [replace(table, measures=[measure for measure in table.measures if measure in chosen]) for table in TABLES]
    tables = [table for table in tables if table.measures]
    print(_machine())
    try:
        for table in tables:
            _take(table, scale)
    finally:
        engines.stop()
    if starved:
        print(f"\nDoubtful: {len(starved)} times a server had less than {ENOUGH:.0%} of a CPU ({_counted(starved)}).")
        print("Something else is running, or the client is too slow. Compare such figures with care.")
    if options.json:
        options.json.write_text(json.dumps(_record(chosen), indent=2) + "\n")
    if options.markdown:
        _print_markdown(tables)


def _take(table: Table, scale: Scale) -> None:
    empty = [""] * (5 - len(table.columns))
    print(ROW.format("", "", *table.columns, *empty, "ours, target"))
    with launch.cores_apart() if table.cores_apart else nullcontext():
        for measure in table.measures:
            measure.take(scale)
            figures = [_shown(measure.figure(column)) for column in table.columns]
            verdicts = "; ".join(_verdicts(measure))
            print(ROW.format(measure.title, measure.unit, *figures, *empty, verdicts).rstrip(), flush=True)
    if state.curves and state.MEASURES[0] in table.measures:
        _print_curves()


def _print_curves() -> None:
    print(f"\n{'turn n, ms':24} {'n':>9} {'lock, commit':>12} {'read':>12}")
    for engine, points in state.curves.items():
        for number, (turn, read) in points.items():
            print(f"{engine:24} {number:9,} {turn:12.2f} {read:12.2f}")


def _print_markdown(tables: Sequence[Table]) -> None:
    command = shlex.join(["nox", "-s", "bench", "--", *sys.argv[1:]])
    print(f"\nMedians of {command!r} on {datetime.now(UTC).date()}: {_machine()}.".replace("'", "`"))
    for table in tables:
        print(f"\n| measure | {' | '.join(table.columns)} | ratio or figure | wanted | reached? |")
        print("|---" * (len(table.columns) + 4) + "|")
        for measure in table.measures:
            figures = [_shown(measure.figure(column), missing="") for column in table.columns]
            print(
                _typeset(
                    f"| {measure.title}, {measure.unit} | {' | '.join([*figures, *_markdown_verdicts(measure)])} |"
                )
            )


def _markdown_verdicts(measure: Measure) -> tuple[str, str, str]:
    """Table cells: the values that the targets are about, the targets, and the verdicts."""
    judged = [(measure.value(target), target) for target in measure.targets]
    rows = [(f"{value:.3g}", str(target), target.verdict(value)) for value, target in judged if value is not None]
    figures, targets, verdicts = zip(*rows, strict=True) if rows else ((), (), ())
    return "<br>".join(figures), "<br>".join(targets), "<br>".join(verdicts)


def _typeset(row: str) -> str:
    for typed, sign in ((">=", "≥"), ("<=", "≤"), (" x ", " × "), (", us", ", µs"), ("%", " %")):
        row = row.replace(typed, sign)
    return row


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [measure.name for measure in MEASURES]
    parser.add_argument("--quick", action="store_true", help="one short round of each measure")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each measure")
    launch.add_options(parser)
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown at the end")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of every round to a file")
    return parser.parse_args()


def _machine() -> str:
    packages = ", ".join([f"{name} {version(name)}" for name in PACKAGES])
    program = ", ".join(launch.PROGRAM.values())
    load = os.getloadavg()[0]
    return f"Python {platform.python_version()}, {packages}; on {program}; {os.cpu_count()} CPUs, load {load:.1f}"


def _verdicts(measure: Measure) -> list[str]:
    verdicts: list[str] = []
    for target in measure.targets:
        value = measure.value(target)
        if value is None:  # the subject is not installed
            continue
        verdicts.append(f"{value:.3g} ({target}: {target.verdict(value)})")
    return verdicts


def _counted(names: list[str]) -> str:
    return ", ".join([f"{name} {names.count(name)}" for name in dict.fromkeys(names)])


def _shown(figure: float | None, missing: str = "-") -> str:
    if figure is None:
        return missing
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


def _record(measures: list[Measure]) -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "starved": starved,
        "packages": {name: version(name) for name in PACKAGES},
        "curves": state.curves,
        "measures": {
            measure.name: {"unit": measure.unit, "verdicts": _verdicts(measure), "rounds": measure.samples}
            for measure in measures
        },
    }


if __name__ == "__main__":
    main()
