"""Embed functions under the server: stopped at any step, on both event loops, they leave nothing behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from openai_compat import Deadlines, Limits, Server
from openai_compat.http import HttpRequest
from tests.support.exchanges import Recorder, answer, request
from tests.support.stepping import Diary, agent_threads, cancel_after, eventually, handling, tasks

pytestmark = pytest.mark.anyio
Vectors = list[list[float]]


def embedding() -> HttpRequest:
    return request("/v1/embeddings", {"model": "small", "input": "a"})


def serving(function: Any, **options: Any) -> Server:
    return Server(lambda prompt: prompt, embeddings={"small": function}, **options)


def asynchronous(diary: Diary) -> Callable[..., Any]:
    async def embed(texts: list[str]) -> Vectors:
        diary.began += 1
        try:
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            return [[1.0]]
        finally:
            diary.cleaned_up += 1

    return embed


def plain(diary: Diary) -> Callable[..., Any]:
    def embed(texts: list[str]) -> Vectors:
        diary.began += 1
        diary.cleaned_up += 1
        return [[1.0]]

    return embed


def plain_to_be_awaited(diary: Diary) -> Callable[..., Any]:
    return lambda texts: asynchronous(diary)(texts)


@pytest.mark.parametrize("how", ["task", "scope"])
@pytest.mark.parametrize("kind", [asynchronous, plain, plain_to_be_awaited])
async def test_a_client_may_leave_at_every_await_point(kind: Callable[[Diary], Any], how: str) -> None:
    for steps in range(500):
        diary, sent = Diary(), Recorder()
        server = serving(kind(diary), limits=Limits(slots=1))
        before = tasks()
        over = await cancel_after(steps, handling(server, embedding, sent), how)
        await eventually(lambda server=server: server.services.live.slots.used == 0)
        assert diary.cleaned_up == diary.began <= 1
        assert not server.services.live.runner.running
        await eventually(lambda: not agent_threads())
        assert tasks() == before
        assert (await answer(server, embedding())).status == 200
        if over:
            break
    else:
        pytest.fail("the request never came to its end")
    assert sent.json["data"][0]["embedding"] == [1.0]


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
@pytest.mark.parametrize("is_async", [True, False])
async def test_whatever_a_function_raises_is_one_500_and_the_server_lives(
    kind: type[BaseException], is_async: bool
) -> None:
    async def fails(texts: list[str]) -> Vectors:
        raise kind("secret")

    def fails_too(texts: list[str]) -> Vectors:
        raise kind("secret")

    server = serving(fails if is_async else fails_too)
    for _ in range(2):
        sent = await answer(server, embedding())
        assert (sent.status, sent.error["code"]) == (500, "agent_error")
        assert b"secret" not in sent.data
    assert server.services.live.slots.used == 0


async def test_a_function_that_swallows_its_cancellation_keeps_its_slot_until_it_ends() -> None:
    go = anyio.Event()

    async def stubborn(texts: list[str]) -> Vectors:
        with anyio.CancelScope(shield=True):  # trio respects the shield; asyncio needs the `suppress` below
            while not go.is_set():
                with suppress(asyncio.CancelledError):
                    await go.wait()
        return [[1.0]]

    server = serving(stubborn, deadlines=Deadlines(request=0.01, grace=0.01))
    sent = await answer(server, embedding())
    assert (sent.status, sent.error["code"]) == (504, "timeout")
    assert server.services.live.slots.used == 1
    go.set()
    await eventually(lambda: server.services.live.slots.used == 0)


async def test_functions_run_side_by_side() -> None:
    both = threading.Barrier(2, timeout=20)

    def waits(texts: list[str]) -> Vectors:
        both.wait()
        return [[1.0]]

    server = serving(waits)
    sent: list[Recorder] = []

    async def ask() -> None:
        sent.append(await answer(server, embedding()))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        group.start_soon(ask)
    assert [found.status for found in sent] == [200, 200]
