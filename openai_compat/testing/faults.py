"""Faults to inject into a working agent, and a client that disconnects. They compose: `raise_at(slow(agent, 0.1), 3)`."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, TypeVar, overload

import anyio

from ..agent_request import AgentRequest
from ..agents.adapt import Agent
from ..backend import RunContext
from ..events import AgentEvent
from .scripted import Gate
from .wrapping import Wrapper

Chunk = TypeVar("Chunk")


def slow(agent: Agent, pause: float | Gate, *, after: int = 0) -> Wrapper:
    """The agent with delayed output: items are held back once `after` items were sent.

    `pause` is the number of seconds before each item, or a gate (`anyio.Event`) that all items wait for. The agent has already
    produced an item when it is held back, so even a fast agent can be interrupted in the middle of its work.
    """
    return _Slow(agent, pause, after)


def raise_at(agent: Agent, n: int, error: BaseException | None = None) -> Wrapper:
    """The agent, failing with `error` (by default a RuntimeError) after `n` items, or at its end if it has fewer."""
    return _Failing(agent, n, error or RuntimeError("injected by openai_compat.testing"))


@overload
def leave_at(stream: AsyncIterable[Chunk], n: int) -> AsyncIterator[Chunk]: ...
@overload
def leave_at(stream: Iterable[Chunk], n: int) -> Iterator[Chunk]: ...
def leave_at(stream: AsyncIterable[Chunk] | Iterable[Chunk], n: int) -> AsyncIterator[Chunk] | Iterator[Chunk]:
    """The first `n` chunks of an openai client's stream; then the connection is closed, as by a client that disconnects.

    Accepts the streams of `AsyncOpenAI` and of `OpenAI`, and anything else with chunks and a `close`.
    """
    return _leave_async(stream, n) if isinstance(stream, AsyncIterable) else _leave(stream, n)


class _Slow(Wrapper):
    def __init__(self, agent: Agent, pause: float | Gate, after: int) -> None:
        super().__init__(agent)
        self._pause = pause
        self._after = after

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        async with self.items_of(request, context) as items:
            said = 0
            async for item in items:
                if said >= self._after:
                    await _wait(self._pause)
                said += 1
                yield item


async def _wait(pause: float | Gate) -> None:
    if isinstance(pause, Gate):
        await pause.wait()
    else:
        await anyio.sleep(pause)


class _Failing(Wrapper):
    def __init__(self, agent: Agent, n: int, error: BaseException) -> None:
        super().__init__(agent)
        self._n = n
        self._error = error

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        if self._n > 0:
            async with self.items_of(request, context) as items:
                said = 0
                async for item in items:
                    yield item
                    said += 1
                    if said >= self._n:
                        break
        raise self._error


async def _leave_async(stream: AsyncIterable[Chunk], n: int) -> AsyncIterator[Chunk]:
    left: Any = stream
    try:
        if n <= 0:
            return
        left_over = n
        async for chunk in stream:
            yield chunk
            left_over -= 1
            if not left_over:
                return
    finally:
        # SDK streams have `close`, async generators `aclose`.
        await (left.close() if hasattr(left, "close") else left.aclose())


def _leave(stream: Iterable[Chunk], n: int) -> Iterator[Chunk]:
    left: Any = stream
    try:
        for _, chunk in zip(range(n), stream, strict=False):
            yield chunk
    finally:
        left.close()
