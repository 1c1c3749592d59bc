"""How many users several hosts and one PostgreSQL can carry: measured costs of a turn, and a simulation with them.

    python benchmarks/many_hosts.py              measure here, about a minute, then simulate
    python benchmarks/many_hosts.py --assumed    simulate with the costs in docs/explanation/many-hosts.md

A user sends a message, waits for the answer, and thinks. A turn uses CPU of a worker and of PostgreSQL at its beginning and at
its end, and a commit; while its agent streams, each event uses CPU of the worker, and of PostgreSQL if it is logged.
Each worker has its own core. Commits that arrive during a disk write share the next one.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import os
import random
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path

import engines
import load
from launch import Running, running

from tests.stores.postgres_cluster import Cluster


@dataclass(frozen=True)
class Costs:
    """Cost of a turn: seconds of CPU, statements, and bytes.

    Attributes:
        worker, database: CPU of a turn in a stored conversation, without its events.
        statements: SQL statements sent to PostgreSQL.
        log, kept: bytes of PostgreSQL's write-ahead log, and growth of its files.
        event, logged: CPU of a worker for a streamed event, and the extra CPU for logging it.
        event_database, event_log: CPU of PostgreSQL, and bytes of its log, for a logged event.
    """

    worker: float
    database: float
    statements: float
    log: float
    kept: float
    event: float
    logged: float
    event_database: float
    event_log: float


ASSUMED = Costs(
    worker=1.5e-3, database=0.6e-3, statements=2, log=9e3, kept=5e3,
    event=35e-6, logged=5e-6, event_database=1e-6, event_log=60,
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Hosts and users.

    Attributes:
        workers: processes, each with its own core.
        database_cores: cores of each database.
        databases: number of databases, over which callers are distributed.
        syncs: durable disk writes per second of a database.
        disk: bytes per second that a database's disk can write.
        agent, think: seconds that an agent streams, and that a user thinks.
        events: events per second of an agent.
        logged: share of the turns that have an event log.
    """

    workers: int = 16
    database_cores: int = 8
    databases: int = 1
    syncs: float = 1000
    disk: float = 200e6
    agent: float = 10
    think: float = 30
    events: float = 50
    logged: float = 0.1


# Cost of a turn


def measured() -> Costs:
    """Measure the costs on this machine."""
    with engines.store_url("postgresql") as url, running("stateful", STORE=url) as server:
        database = url.rpartition("/")[2]
        _turns(server, 2)  # warm-up
        turns, used = _used(server, database, lambda: _turns(server, 8))
        plain, _ = _streamed(server, database, background=False)
        logged, of_log = _streamed(server, database, background=True)
        return Costs(
            worker=used["worker"] / turns, database=used["database"] / turns, statements=used["statements"] / turns,
            log=used["log"] / turns, kept=used["kept"] / turns, event=plain, logged=max(0.0, logged - plain),
            event_database=of_log["database"], event_log=of_log["log"],
        )  # fmt: skip


def _turns(server: Running, seconds: float) -> float:
    return seconds * asyncio.run(load.turns_per_second([server.port], clients=16, turns=10, seconds=seconds))


def _streamed(server: Running, database: str, *, background: bool) -> tuple[float, dict[str, float]]:
    """Cost of an event to the worker and to PostgreSQL, for 100 streams at a model's speed."""
    events, streams = 300, 100
    message = load.response_request(events, model="paced", background=background)

    async def talk() -> float:
        await load.ended(await load.open_streams(server.port, message, streams))
        return streams * events

    number, used = _used(server, database, lambda: asyncio.run(talk()))
    return used["worker"] / number, {name: value / number for name, value in used.items()}


def _used(server: Running, database: str, work: Callable[[], float]) -> tuple[float, dict[str, float]]:
    """The result of `work`, and the resources used meanwhile."""
    before = _read(server, database)
    done = work()
    time.sleep(1.5)  # PostgreSQL updates its statistics once per second
    return done, {name: value - before[name] for name, value in _read(server, database).items()}


def _read(server: Running, database: str) -> dict[str, float]:
    cluster = engines.cluster()
    (row,) = cluster.sql(
        "select xact_commit, pg_current_wal_lsn() - '0/0', pg_database_size(datname) "
        f"from pg_stat_database where datname = '{database}'"
    )
    statements, log, kept = [float(value) for value in row.split("|")]
    return {"worker": server.cpu(), "database": _cpu(cluster), "statements": statements, "log": log, "kept": kept}


def _cpu(cluster: Cluster) -> float:
    """CPU seconds of PostgreSQL and of its running child processes."""
    used = 0
    for process in cluster.processes:
        with suppress(OSError):  # the process has just ended
            stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            used += int(stat[11]) + int(stat[12])
    return used / os.sysconf("SC_CLK_TCK")


# Simulation

BEGINNING = 0.4
"""Share of a turn's CPU that is used before its agent streams."""


class Servers:
    """Servers with one shared queue. `speed` is the share of each that is left for queued work."""

    def __init__(self, number: int, speed: float, clock: Clock) -> None:
        self._free = number
        self._speed = speed
        self._clock = clock
        self._queue: deque[tuple[float, Callable[[], None]]] = deque()

    def take(self, seconds: float, then: Callable[[], None]) -> None:
        """Queue work of `seconds` CPU seconds."""
        self._queue.append((seconds, then))
        self._serve()

    def _serve(self) -> None:
        while self._free and self._queue:
            self._free -= 1
            seconds, then = self._queue.popleft()
            self._clock.after(seconds / self._speed, partial(self._served, then))

    def _served(self, then: Callable[[], None]) -> None:
        self._free += 1
        then()
        self._serve()


class Disk:
    """Writes all commits that arrived during one write in the next."""

    def __init__(self, syncs: float, clock: Clock) -> None:
        self._seconds = 1 / syncs
        self._clock = clock
        self._waiting: list[Callable[[], None]] = []
        self._busy = False

    def commit(self, then: Callable[[], None]) -> None:
        """Call `then` once the disk has written."""
        self._waiting.append(then)
        self._write()

    def _write(self) -> None:
        if self._waiting and not self._busy:
            self._busy = True
            written, self._waiting = self._waiting, []
            self._clock.after(self._seconds, partial(self._written, written))

    def _written(self, written: list[Callable[[], None]]) -> None:
        self._busy = False
        for then in written:
            then()
        self._write()


class Clock:
    """Runs due callbacks in order of time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Schedule `call` after `seconds` of simulated time."""
        heapq.heappush(self._due, (self.now + seconds, next(self._number), call))

    def run(self, until: float) -> None:
        """Advance the time to `until`."""
        while self._due and self._due[0][0] < until:
            self.now, _, call = heapq.heappop(self._due)
            call()


def loads(costs: Costs, plan: Plan, users: int) -> dict[str, float]:
    """Utilization of each part if all turns are served in time; above 1 they are not."""
    turns = users / (plan.agent + plan.think)
    events = turns * plan.agent * plan.events
    logged = events * plan.logged
    return {
        "workers": (turns * costs.worker + events * costs.event + logged * costs.logged) / plan.workers,
        "database": (turns * costs.database + logged * costs.event_database) / (plan.databases * plan.database_cores),
        "disk": (turns * costs.log + logged * costs.event_log) / (plan.databases * plan.disk),
    }


def waits(costs: Costs, plan: Plan, users: int, seconds: float = 3.0) -> tuple[float, float]:
    """Seconds that a turn waits for everything except its agent: the median, and the 99th percentile."""
    dice, clock, waited = random.Random(1), Clock(), list[float]()
    speaking = loads(replace(costs, worker=0.0, database=0.0), plan, users)
    workers = Servers(plan.workers, max(0.02, 1 - speaking["workers"]), clock)
    databases = [
        (Servers(plan.database_cores, max(0.02, 1 - speaking["database"]), clock), Disk(plan.syncs, clock))
        for _ in range(plan.databases)
    ]

    def think(user: int) -> None:
        clock.after(dice.expovariate(1 / plan.think), lambda: begin(user))

    def begin(user: int) -> None:
        cores, _ = databases[user % plan.databases]
        at = clock.now
        lock = partial(cores.take, costs.database * BEGINNING, lambda: speak(user, clock.now - at))
        workers.take(costs.worker * BEGINNING, lock)

    def speak(user: int, before: float) -> None:
        clock.after(dice.expovariate(1 / plan.agent), lambda: end(user, before))

    def end(user: int, before: float) -> None:
        cores, disk = databases[user % plan.databases]
        at = clock.now

        def ended() -> None:
            waited.append(before + clock.now - at)
            think(user)

        commit = partial(cores.take, costs.database * (1 - BEGINNING), partial(disk.commit, ended))
        workers.take(costs.worker * (1 - BEGINNING), commit)

    for user in range(users):  # start users at a random point of their cycle
        if dice.random() < plan.agent / (plan.agent + plan.think):
            speak(user, 0.0)
        else:
            think(user)
    clock.run(2.0)
    waited.clear()
    clock.run(2.0 + seconds)
    shares = statistics.quantiles(waited, n=100)
    return shares[49], shares[98]


def carried(costs: Costs, plan: Plan) -> dict[str, int]:
    """Number of users at which each part is busy 70 % of the time."""
    return {part: int(0.7 / share * 1000) for part, share in loads(costs, plan, 1000).items()}


ONE = Plan(workers=1, database_cores=1)
PLANS = {
    "1 host, 4 workers": Plan(workers=4, database_cores=4),
    "4 hosts, 16 workers": Plan(),
    "32 hosts, 128 workers": Plan(workers=128),
    "the same, all turns logged": Plan(workers=128, logged=1.0),
    "agents that answer at once": Plan(workers=128, agent=1.0, think=5.0, events=1.0),
    "the same, 4 databases": Plan(workers=128, agent=1.0, think=5.0, events=1.0, databases=4),
}
ROW = "{:28} {:>9} {:>9} {:>10} {:>9} {:>9} {:>14} {:>9}"


def main() -> None:
    """Print the cost of a turn, the users that one unit of each part carries, and the waits for several numbers of hosts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assumed", action="store_true", help="use the documented costs instead of measuring")
    assumed: bool = parser.parse_args().assumed
    if not assumed and "postgresql" not in engines.available():
        sys.exit("PostgreSQL is not installed: --assumed")
    try:
        costs = ASSUMED if assumed else measured()
    finally:
        engines.stop()
    print(json.dumps({name: float(f"{value:.3g}") for name, value in asdict(costs).items()}, indent=1), "\n")
    for part, users in carried(costs, ONE).items():
        print(f"{'one core' if part != 'disk' else '200 MB/s'} of {part}: {users:,} users")
    print("\n" + ROW.format("", "users", "turns/s", "ends with", "p50, ms", "p99, ms", "p99 at 1.5 x", "GB a day"))
    for name, plan in PLANS.items():
        parts = carried(costs, plan)
        part = min(parts, key=lambda part: parts[part])
        users = parts[part]
        p50, p99 = waits(costs, plan, users)
        _, beyond = waits(costs, plan, users * 3 // 2)
        turns = users / (plan.agent + plan.think)
        figures = [f"{1000 * value:,.0f}" for value in (p50, p99, beyond)]
        print(
            ROW.format(name, f"{users:,}", f"{turns:,.0f}", part, *figures, f"{turns * 86400 * costs.kept / 1e9:,.0f}")
        )


if __name__ == "__main__":
    main()
