"""Timers and sleepers, on every event loop: an event loop's timer handle need not tell when it goes off."""

from __future__ import annotations

import asyncio

import anyio
import anyio.lowlevel
import pytest

from openai_compat.aio.timers import ReusableTimer, ScopeTimeout, new_wake_event
from tests.loops import ASYNCIO_LOOPS
from tests.loops import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio

TINY = (0.0, 1e-9, 1e-5, 0.0004, 0.0005, 0.001)


@pytest.mark.parametrize("seconds", TINY)
async def test_a_wait_may_be_as_short_as_it_likes(seconds: float) -> None:
    event = new_wake_event()
    with anyio.fail_after(20):
        for _ in range(100):
            await event.wait(anyio.current_time() + seconds)
    event.close()


@pytest.mark.parametrize("first", TINY)
@pytest.mark.parametrize("second", [0.0001, 10.0])
async def test_a_timer_that_is_due_can_be_moved(first: float, second: float) -> None:
    with anyio.fail_after(20):
        for _ in range(20):
            with anyio.CancelScope() as scope:
                timeout = ScopeTimeout(scope)
                timeout.start(first)
                timeout.stop()
                timeout.start(second)
                if second < 1:
                    await anyio.sleep_forever()
            timeout.close()
            assert scope.cancel_called == (second < 1)


@pytest.mark.parametrize("seconds", TINY)
async def test_a_task_that_is_woken_while_its_timer_is_due_can_wait_again(seconds: float) -> None:
    # a timer that fires too early, by a rounding, is scheduled once more, and then the task comes before it
    event, over = new_wake_event(), False

    async def wake() -> None:
        while not over:
            event.set()
            await anyio.lowlevel.checkpoint()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(wake)
            for _ in range(2000):
                await event.wait(seconds)
                await anyio.lowlevel.checkpoint()
            over = True
    event.close()


@pytest.mark.parametrize("anyio_backend", ASYNCIO_LOOPS)
@pytest.mark.parametrize("first", TINY)
@pytest.mark.parametrize("second", TINY)
async def test_a_timer_that_is_due_can_be_started_again_in_the_same_step(first: float, second: float) -> None:
    fired = anyio.Event()
    timer = ReusableTimer(asyncio.get_running_loop())
    timer.start(first, fired.set)
    timer.start(second, fired.set)
    timer.stop()
    timer.start(first, fired.set)
    with anyio.fail_after(20):
        await fired.wait()
    timer.close()


async def test_a_signal_that_was_set_between_does_not_wait() -> None:
    event = new_wake_event()
    with anyio.fail_after(20):
        await event.wait(anyio.current_time() + 0.0001)
        event.set()
        await event.wait(anyio.current_time() + 1000)
    event.close()
