"""Cancels a request after any number of event loop steps, and checks that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import trio

from openai_compat import Server
from openai_compat.http import HttpRequest
from tests.support.exchanges import Recorder


@dataclass
class Diary:
    """Records what an agent of these tests did."""

    began: int = 0
    done: int = 0
    cleaned_up: int = 0
    log: list[str] = field(default_factory=list)


async def cancel_after(steps: int, call: Callable[[], Awaitable[None]], how: str) -> bool:
    """Run `call` in a task and cancel it after `steps` steps of the loop; True if it had already ended.

    `how` is "task" for the event loop's own cancellation, "scope" for anyio's.
    """
    over = False

    async def run() -> None:
        nonlocal over
        await call()
        over = True

    async def step() -> None:
        for _ in range(steps):
            if over:
                return
            await anyio.lowlevel.checkpoint()

    if how == "task" and anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        task = asyncio.create_task(run())
        await step()
        was_over = over
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
        return was_over
    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await step()
        was_over = over
        group.cancel_scope.cancel()
    return was_over


def tasks() -> int:
    """Number of tasks in the running event loop."""
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        return len(asyncio.all_tasks())
    return trio.lowlevel.current_statistics().tasks_living


def agent_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "openai-compat agent"]


async def eventually(condition: Callable[[], Any]) -> None:
    """Wait until `condition` holds; fail after 20 seconds."""
    with anyio.fail_after(20):
        while not condition():
            await anyio.sleep(0.001)


def handling(server: Server, request: Callable[[], HttpRequest], sent: Recorder) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        await server.handle(request(), sent)

    return call
