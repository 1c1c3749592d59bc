"""Our server beside two others: what an ASGI server can do at all, and what people write by hand.

    python benchmarks/run.py                      everything, about ten minutes
    python benchmarks/run.py --quick              one short round of everything: good for a look, not for a claim
    python benchmarks/run.py --only burst         one measure; can be given several times
    python benchmarks/run.py --json before.json   the figures of every round too, to compare two states of the code

measures
  burst     agents that never pause: events per second over 4 streams of 20,000 short texts
  responses the same over the Responses API; the floor writes the same bytes
  plain     small requests, 8 connections kept alive: answers per second
  paced     200 streams, 50 events a second each: CPU time of the server for one event
  idle      500 streams that have said one thing and wait: memory of the server for one stream
  history   201 messages, 100 kB: answers per second
  import    seconds for `import openai_compat`, which must load no vendor SDK and no web framework;
            beside it (floor) what pydantic and anyio take alone

measures of stored turns, on each engine
  turn            one client, the store alone: lock a conversation, read it, commit a question and an answer; disk: how
                  often a second the disk keeps 4 kB, which a durable commit waits for
  turn-cpu        CPU time of that
  turns           32 clients
  http-turn, http-turn-cpu, http-turns
                  the same over HTTP: plain responses in a conversation, stored, of an agent that answers at once
  http-turns-16   16 clients
  store-thread    share of the time for which the thread that writes to the SQLite file is busy then
  curve           a turn at the end of a conversation of 10,000 to one of the first, without the reading of the history;
                  below the table, what turn n takes
  log             streams of agents that never pause, with an event log (background) to those without
  log-cpu         CPU time for an event of 200 paced streams, with a log to those without
  workers         two processes on one PostgreSQL to one, 32 clients; needs a CPU for each of the two, one for PostgreSQL
                  and one for the client
  workers-cpu     CPU time of a turn with four to that with one

measures of the chat WebSocket, with `ours` in uvicorn and in `openai-compat serve`, and of the tool loop
  socket      agents that never pause: events per second over 4 sockets, 20,000 short texts each
  socket-cpu  the same for a second of the server's CPU time
  idle-socket 1,000 sockets on which nothing was said: memory of the server for one
  tools       CPU time for a roundtrip of the tool loop, in this process, with a model that costs nothing: one call each,
              five in a turn
  tools-many  the same with four calls each, 20 in a turn

servers (benchmarks/servers/), each alone in a uvicorn process: h11, one worker, asyncio's own loop
  floor         raw ASGI, ready-made bytes, one send for each event; reads no JSON
  handwritten   FastAPI and the types of the openai package
  ours          Server and create_app, as in the README
  stateful      the same with a store; PostgreSQL is started for the purpose, with the settings it comes with
  bare_socket   a Starlette WebSocket that sends the same frames one by one, with json.dumps
  chat_websocket   ours with a chat WebSocket; also in `openai-compat serve`, which writes less often

Figures are medians of rounds in which the servers take turns. Ratios, which are what the targets are about, carry
over to other machines; figures do not. Nothing fails for being slow: the exit status is 0 unless something breaks.
Linux only (CPU time and memory are read from /proc). Needs the extra `test` and the dependency group `bench`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import chat
import engines
import measures
import state
from launch import SERVERS
from measure import ENOUGH, FULL, QUICK, Measure, Scale, starved

PACKAGES = ("uvicorn", "h11", "starlette", "pydantic", "anyio", "fastapi", "openai", "asyncpg")
MEASURES = (*measures.MEASURES, *state.MEASURES, *chat.MEASURES)
ROW = "{:24} {:9} {:>12} {:>12} {:>12} {:>12}  {:36}"
TABLES = (
    (measures.MEASURES, (*SERVERS, ""), "ours, target"),
    (state.MEASURES, (*engines.ENGINES, "disk"), "target"),
    (chat.MEASURES, (*chat.STARTED, ""), "target"),
)


def main() -> None:
    """Measure, and print a line for each measure as soon as it is there."""
    options = _options()
    scale = QUICK if options.quick else FULL
    if options.rounds:
        scale = replace(scale, rounds=options.rounds)
    chosen = [measure for measure in MEASURES if not options.only or measure.name in options.only]
    if sys.platform != "linux":
        sys.exit("the benchmark reads /proc: Linux only")
    if any([measure in chosen for measure in measures.MEASURES]):
        measures.check()
    print(_machine())
    try:
        for table, columns, verdicts in TABLES:
            _take([measure for measure in table if measure in chosen], columns, verdicts, scale)
    finally:
        engines.stop()
    if starved:
        print(f"\nDoubtful: {len(starved)} times a server had less than {ENOUGH:.0%} of a CPU ({_counted(starved)}).")
        print("Something else is running, or the client is too slow. Compare such figures with care.")
    if options.json:
        options.json.write_text(json.dumps(_record(chosen), indent=2) + "\n")


def _take(table: list[Measure], columns: Sequence[str], verdicts: str, scale: Scale) -> None:
    if table:
        print(ROW.format("", "", *columns, verdicts))
    for measure in table:
        measure.take(scale)
        print(_row(measure, columns), flush=True)
    if state.curves:
        _print_curves()


def _print_curves() -> None:
    print(f"\n{'turn n, ms':24} {'n':>9} {'lock, commit':>12} {'read':>12}")
    for engine, points in state.curves.items():
        for number, (turn, read) in points.items():
            print(f"{engine:24} {number:9,} {turn:12.2f} {read:12.2f}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [measure.name for measure in MEASURES]
    parser.add_argument("--quick", action="store_true", help="one short round of each measure")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each measure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of every round to a file")
    return parser.parse_args()


def _machine() -> str:
    packages = ", ".join([f"{name} {version(name)}" for name in PACKAGES])
    return f"Python {platform.python_version()}, {packages}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}\n"


def _row(measure: Measure, columns: Sequence[str]) -> str:
    figures = [_shown(measure.figure(column)) if column else "" for column in columns]
    return ROW.format(measure.title, measure.unit, *figures, "; ".join(_verdicts(measure))).rstrip()


def _verdicts(measure: Measure) -> list[str]:
    verdicts: list[str] = []
    for target in measure.targets:
        value = measure.value(target)
        if value is None:  # what it is about is not installed
            continue
        verdicts.append(f"{value:.3g} ({target}: {'reached' if target.reached(value) else 'MISSED'})")
    return verdicts


def _counted(names: list[str]) -> str:
    return ", ".join([f"{name} {names.count(name)}" for name in dict.fromkeys(names)])


def _shown(figure: float | None) -> str:
    if figure is None:
        return "-"
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
