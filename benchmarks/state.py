"""Measures of stored turns, with their targets."""

from __future__ import annotations

import asyncio
import json
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TypeAlias

import load
from engines import SHARED, available, store_url, syncs_per_second
from launch import Running, running
from measure import Measure, Scale, Target
from measures import cpu_per_event, events_per_second
from servers.agents import EVENTS_PER_SECOND

from openai_compat.stores.engine import Autocommit, Row, Transaction
from openai_compat.stores.open import open_store
from openai_compat.stores.port import LEASE, ConversationTurn, Item, Key, Store, TurnCommit
from openai_compat.stores.sql import SqlStore
from openai_compat.stores.sql_conversations import LOCK
from openai_compat.stores.sql_text import key_columns

Figure: TypeAlias = Callable[[float, float, int], float]
"""Computes a figure from seconds, CPU seconds, and turns."""

PRINCIPAL = "bench"
POINTS = (1, 10, 100, 300, 1000, 3000, 10_000)
"""Turn numbers whose cost is shown."""
EARLY = 10
"""The turn number that the last one is compared with."""


def item(role: str, text: str) -> Item:
    """A message in its stored form."""
    identifier = "msg_" + secrets.token_hex(16)
    content = [{"type": "output_text" if role == "assistant" else "input_text", "text": text}]
    return Item(identifier, json.dumps({"id": identifier, "type": "message", "role": role, "content": content}))


def outcome(conversation: str, token: str) -> TurnCommit:
    """The commit of a turn with a question and an answer."""
    said = (item("user", "Hello there."), item("assistant", "The quick brown fox jumps over the lazy dog."))
    return TurnCommit(principal=PRINCIPAL, token=token, conversation=ConversationTurn(conversation, said))


# The store alone


def store_turns(scale: Scale, *, clients: int, figure: Figure) -> Iterator[tuple[str, float]]:
    """Lock a conversation, read it, commit a question and an answer; ten turns in each. No server is involved."""
    with ExitStack() as stack:
        urls = {engine: stack.enter_context(store_url(engine)) for engine in available()}
        for number in range(scale.rounds + 1):
            for engine, url in urls.items():
                seconds, cpu, turns = asyncio.run(_talk(url, clients, scale))
                if number:
                    yield engine, figure(seconds, cpu, turns)
            if number:
                yield "disk", syncs_per_second()


async def _talk(url: str, clients: int, scale: Scale) -> tuple[float, float, int]:
    """Returns seconds, CPU seconds, turns."""
    store = open_store(url)
    await _converse(store, 1, 0)
    began, before = time.perf_counter(), time.process_time()
    turns = await asyncio.gather(*[_converse(store, scale.turns, began + scale.seconds) for _ in range(clients)])
    seconds, cpu = time.perf_counter() - began, time.process_time() - before
    await store.aclose()
    return seconds, cpu, sum(turns)


async def _converse(store: Store, length: int, until: float) -> int:
    turns = 0
    while not turns or time.perf_counter() < until:
        if turns % length == 0:
            conversation = "conv_" + secrets.token_hex(16)
        token = secrets.token_hex(16)
        assert await store.begin(Key(PRINCIPAL, conversation), token) is not None
        assert await store.commit(outcome(conversation, token))
        turns += 1
    return turns


def per_second(seconds: float, cpu: float, turns: int) -> float:
    return turns / seconds


def cpu_milliseconds(seconds: float, cpu: float, turns: int) -> float:
    return cpu / turns * 1000


# Over HTTP


@contextmanager
def _stateful(engine: str, number: int = 1) -> Iterator[list[Running]]:
    """`number` server processes on one new store."""
    with ExitStack() as stack:
        url = stack.enter_context(store_url(engine))
        yield [stack.enter_context(running("stateful", STORE=url)) for _ in range(number)]


def http_turns(scale: Scale, *, clients: int, figure: Figure) -> Iterator[tuple[str, float]]:
    """Stored responses in conversations of ten turns. The time to create the conversations counts."""
    with ExitStack() as stack:
        servers = {engine: stack.enter_context(_stateful(engine)) for engine in available()}
        for number in range(scale.rounds + 1):
            for engine, started in servers.items():
                seconds, cpu, turns = _http_talk(started, clients, scale)
                if number:
                    yield engine, figure(seconds, cpu, turns)


def _http_talk(servers: list[Running], clients: int, scale: Scale) -> tuple[float, float, int]:
    began, before = time.perf_counter(), sum([server.cpu() for server in servers])
    ports = [server.port for server in servers]
    rate = asyncio.run(load.turns_per_second(ports, clients=clients, turns=scale.turns, seconds=scale.seconds))
    seconds, cpu = time.perf_counter() - began, sum([server.cpu() for server in servers]) - before
    return seconds, cpu, round(rate * seconds)


def store_thread(scale: Scale, *, clients: int) -> Iterator[tuple[str, float]]:
    """Percentage of the time for which the thread that writes to the SQLite file is busy."""
    with _stateful("sqlite") as servers:
        for number in range(scale.rounds + 1):
            before = load.fetched(servers[0].port, "/busy")
            seconds, _, _ = _http_talk(servers, clients, scale)
            share = (float(load.fetched(servers[0].port, "/busy")) - float(before)) / seconds
            if number:
                yield "sqlite", 100 * share


def workers(scale: Scale, *, number: int, figure: Figure) -> Iterator[tuple[str, float]]:
    """A figure of `number` processes on one PostgreSQL, as a multiple of that of one process."""
    if "postgresql" not in available():
        return
    with _stateful("postgresql", number) as servers:
        for times in range(scale.rounds + 1):
            one = figure(*_http_talk(servers[:1], scale.clients, scale))
            several = figure(*_http_talk(servers, scale.clients, scale))
            if times:
                yield "postgresql", several / one


# Event logs


def log_burst(scale: Scale) -> Iterator[tuple[str, float]]:
    """Events per second of logged streams, as a share of those of unlogged streams on the same server."""
    plain, logged = (
        load.response_request(scale.burst_events),
        load.response_request(scale.burst_events, background=True),
    )
    with ExitStack() as stack:
        servers = {engine: stack.enter_context(_stateful(engine))[0] for engine in available()}
        for number in range(scale.rounds + 1):
            for engine, server in servers.items():
                without = asyncio.run(events_per_second(server, plain, scale))
                share = asyncio.run(events_per_second(server, logged, scale)) / without
                if number:
                    yield engine, share


def log_paced(scale: Scale) -> Iterator[tuple[str, float]]:
    """CPU per event of logged streams at a model's speed, as a multiple of that of unlogged ones on the same server."""
    events = int(EVENTS_PER_SECOND * (scale.seconds + 4))
    plain = load.response_request(events, model="paced")
    logged = load.response_request(events, model="paced", background=True)
    with ExitStack() as stack:
        servers = {engine: stack.enter_context(_stateful(engine))[0] for engine in available()}
        for number in range(scale.rounds + 1):
            for engine, server in servers.items():
                without = asyncio.run(cpu_per_event(server, plain, scale))
                share = asyncio.run(cpu_per_event(server, logged, scale, to_the_end=True)) / without
                if number:
                    yield engine, share


# Long conversations

curves: dict[str, dict[int, tuple[float, float]]] = {}
"""Milliseconds that turn n takes for its own work (lock and commit) and for reading the history, on each engine."""


def curve(scale: Scale) -> Iterator[tuple[str, float]]:
    """The last turn of a long conversation, without reading its history, as a multiple of an early one."""
    points = [n for n in POINTS if n <= scale.longest]
    for engine in SHARED:
        if engine in available():
            with store_url(engine) as url:
                turns, reads = asyncio.run(_long_conversations(url, points, scale.samples))
            curves[engine] = {n: (statistics.median(turns[n]), statistics.median(reads[n])) for n in points}
            pairs = zip(turns[points[-1]], turns[EARLY], strict=True)
            yield engine, statistics.median([late / early for late, early in pairs])


async def _long_conversations(
    url: str, points: Sequence[int], samples: int
) -> tuple[dict[int, list[float]], dict[int, list[float]]]:
    """Time turn n and the reading of its history, for all n alternately, so that they meet the same machine.

    The early turns use a new conversation each; a long one grows a little around n. Histories are read afterwards, one by one,
    because freeing them slows whatever is measured next.
    """
    store = open_store(url)
    assert isinstance(store, SqlStore)
    long = {n: await _grown(store, n - samples // 2) for n in points if n > samples}
    turns: dict[int, list[float]] = {n: [] for n in points}
    reads: dict[int, list[float]] = {}
    for _ in range(samples):
        early = {n: await _grown(store, n - 1) for n in points if n not in long}
        for n, key in (early | long).items():
            turns[n].append(await _milliseconds(_turn(store, key)))
    for n, key in (early | long).items():
        reads[n] = [await _milliseconds(store.read(key)) for _ in range(samples)]
    await store.aclose()
    return turns, reads


async def _milliseconds(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return (time.perf_counter() - began) * 1000


async def _grown(store: SqlStore, turns: int) -> Key:
    """A conversation with `turns` turns."""
    key = Key(PRINCIPAL, "conv_" + secrets.token_hex(16))
    await store.create(PRINCIPAL, key.id, {}, [])
    for _ in range(turns):
        await _turn(store, key)
    return key


async def _turn(store: SqlStore, key: Key) -> None:
    """A turn that does not read the history."""
    token = secrets.token_hex(16)
    await store.engine.run(Autocommit(partial(_lock, key, token), durable=False))
    assert await store.commit(outcome(key.id, token))


def _lock(key: Key, token: str) -> Transaction[Sequence[Row]]:
    """The lock that `begin` takes before it reads the history."""
    rows = yield LOCK, (*key_columns(key), token, LEASE)
    return rows


MEASURES = (
    Measure(
        "turn",
        "a turn in the store",
        "turns/s",
        (Target(">=", 400, of="sqlite"),),
        partial(store_turns, clients=1, figure=per_second),
    ),
    Measure(
        "turn-cpu",
        "the same, CPU",
        "ms",
        (Target("<=", 3, of="sqlite"),),
        partial(store_turns, clients=1, figure=cpu_milliseconds),
    ),
    Measure(
        "turns",
        "32 clients",
        "turns/s",
        (Target(">=", 800, of="postgresql"),),
        lambda scale: store_turns(scale, clients=scale.clients, figure=per_second),
    ),
    Measure(
        "http-turn",
        "a turn over HTTP",
        "turns/s",
        (Target(">=", 400, of="sqlite"),),
        partial(http_turns, clients=1, figure=per_second),
    ),
    Measure(
        "http-turn-cpu",
        "the same, CPU",
        "ms",
        (Target("<=", 3, of="sqlite"),),
        partial(http_turns, clients=1, figure=cpu_milliseconds),
    ),
    Measure(
        "http-turns-16",
        "16 clients",
        "turns/s",
        (Target(">=", 0.75, "memory", of="sqlite"),),
        partial(http_turns, clients=16, figure=per_second),
    ),
    Measure(
        "store-thread",
        "SQLite's thread is busy",
        "%",
        (Target("<=", 30, of="sqlite"),),
        partial(store_thread, clients=16),
    ),
    Measure(
        "http-turns",
        "32 clients",
        "turns/s",
        (Target(">=", 450, of="postgresql"),),
        lambda scale: http_turns(scale, clients=scale.clients, figure=per_second),
    ),
    Measure("curve", "turn 10,000 to turn 10", "x", tuple([Target("<=", 1.25, of=name) for name in SHARED]), curve),
    Measure(
        "log",
        "logged streams",
        "x plain",
        (Target(">=", 0.65, of="sqlite"), Target(">=", 0.75, of="postgresql")),
        log_burst,
    ),
    Measure("log-cpu", "CPU per logged event", "x plain", (), log_paced),
    Measure(
        "workers",
        "2 workers to 1",
        "x",
        (Target(">=", 1.7, of="postgresql"),),
        partial(workers, number=2, figure=per_second),
    ),
    Measure(
        "workers-cpu",
        "CPU of a turn, 4 to 1",
        "x",
        (Target("<=", 1.1, of="postgresql"),),
        partial(workers, number=4, figure=cpu_milliseconds),
    ),
)
