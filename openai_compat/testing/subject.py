"""The subject of a conformance run: an agent, a server or an ASGI application, with its runs watched where possible."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import anyio

from ..agents.adapt import as_backend
from ..backend import AgentBackend
from ..http import HttpRequest
from ..server import Server
from .answer import Answer
from .client_call import Call
from .target import Target, as_target, is_asgi
from .watch import Run, Watched
from .wrapping import Wrap, wrap_agents

TICK = 0.02
"""Seconds between two checks that the event loop is not blocked."""


@dataclass(frozen=True)
class Subject:
    """A target to send requests to. `watched` holds its agents by name; it is empty if they are not accessible."""

    target: Target
    watched: Mapping[str, Watched] = field(default_factory=dict[str, Watched])


def as_subject(thing: Any, serve: Callable[[AgentBackend], object], wrap: Wrap | None = None) -> Subject:
    """A subject made of an agent (served by `serve`), several agents by name, a Server, an ASGI application or a Target.

    `wrap` injects a fault into the agents. Raises TypeError for anything else, and for a fault in an ASGI application.
    """
    watched: list[Watched] = []

    def watch(agent: AgentBackend) -> Watched:
        watched.append(Watched(wrap(agent) if wrap else agent))
        return watched[-1]

    if isinstance(thing, Mapping):
        thing = Server(cast("Mapping[str, Any]", thing))
    if isinstance(thing, Server):
        target = as_target(wrap_agents(thing, watch))
        return Subject(target, dict(zip(thing.services.models.agents, watched, strict=True)))
    if isinstance(thing, Target) or is_asgi(thing):
        if wrap is not None:
            raise TypeError("an agent inside an application cannot be reached to put a fault into it")
        return Subject(thing if isinstance(thing, Target) else as_target(thing))
    target = as_target(serve(watch(as_backend(thing))))
    return Subject(target, {"": watched[0]})


@dataclass(frozen=True)
class ObservedExchange:
    """An answered request.

    Attributes:
        answer: the answer that the client received.
        runs: the agent runs that it caused; empty if they are not accessible.
        lag: the longest time that the event loop was blocked meanwhile, in seconds.
        left_behind: names of tasks that were started meanwhile and still run some time after.
    """

    answer: Answer
    runs: list[Run]
    lag: float
    left_behind: list[str]


async def ask(
    subject: Subject,
    watched: Watched | None,
    request: HttpRequest,
    patience: float,
) -> ObservedExchange:
    """Send a request, read its answer to the end, and check for tasks that still run `patience` seconds later."""
    # Compared with the tasks before: other checks share this loop, and an agent may have permanent tasks.
    before, seen = running_tasks(), len(watched.runs) if watched else 0
    async with measure_lag() as lag, Call(subject.target, request) as call:
        answer = await call.read_all()
    runs = watched.runs[seen:] if watched else []
    left_behind = await leftover_tasks(before, runs, patience)
    return ObservedExchange(answer, runs, lag[0], left_behind)


@asynccontextmanager
async def measure_lag() -> AsyncGenerator[list[float]]:
    """The longest time that the event loop is blocked inside the context, as the only entry of a list."""
    lag = [0.0]

    async def tick() -> None:
        while True:
            before = time.monotonic()
            await anyio.sleep(TICK)
            lag[0] = max(lag[0], time.monotonic() - before - TICK)

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        yield lag
        group.cancel_scope.cancel()


def running_tasks() -> set[asyncio.Task[Any]]:
    """The tasks of this event loop; none on trio, where no task outlives its nursery."""
    try:
        return asyncio.all_tasks()
    except RuntimeError:
        return set()


async def leftover_tasks(before: set[asyncio.Task[Any]], runs: Iterable[Run], patience: float) -> list[str]:
    """Names of tasks and runs started since `before` that do not end within `patience` seconds."""
    with anyio.move_on_after(patience) as scope:
        for run in runs:
            await run.ended.wait()
        own = asyncio.current_task() if before else None
        tasks = running_tasks() - before - {own}
        if tasks:
            await asyncio.wait(tasks)
        return []
    left = [] if not before else [task for task in running_tasks() - before if task is not asyncio.current_task()]
    names = [task.get_name() for task in left] or ["the run of the agent"]
    return names if scope.cancelled_caught else []
