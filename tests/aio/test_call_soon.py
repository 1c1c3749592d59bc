"""Calls scheduled for the moment a task waits, and cancelled if the task ends first."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from openai_compat.aio.timers import asyncio_loop, call_soon
from tests.loops import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


async def test_a_task_that_waits_has_it_called_once() -> None:
    log: list[str] = []
    soon = call_soon(asyncio_loop(), lambda: log.append("waits"))
    assert log == []
    with anyio.fail_after(5):
        while not log:
            await anyio.lowlevel.checkpoint()
    await anyio.lowlevel.checkpoint()
    soon.cancel()
    assert log == ["waits"]


async def test_what_is_cancelled_before_the_first_wait_is_not_called() -> None:
    log: list[str] = []
    call_soon(asyncio_loop(), lambda: log.append("waits")).cancel()
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
    assert log == []
