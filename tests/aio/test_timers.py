"""Timers and sleepers on every event loop, whose timer handles may not know when they fire."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest

from openai_compat.aio.timers import ReusableTimer, ScopeTimeout, asyncio_loop, new_wake_event
from tests.loops import ASYNCIO_LOOPS
from tests.loops import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio

TINY = (0.0, 1e-9, 1e-5, 0.0004, 0.0005, 0.001)


@pytest.mark.parametrize("seconds", TINY)
async def test_a_wait_may_be_as_short_as_it_likes(seconds: float) -> None:
    event = new_wake_event(asyncio_loop())
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
    # a timer that fires too early by a rounding error is scheduled again, and the task then runs before it
    event, over = new_wake_event(asyncio_loop()), False

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
    event = new_wake_event(asyncio_loop())
    with anyio.fail_after(20):
        await event.wait(anyio.current_time() + 0.0001)
        event.set()
        await event.wait(anyio.current_time() + 1000)
    event.close()


# work offered in place of waking


class Instead:
    """A callback in place of waking the task, with a count of its calls."""

    def __init__(self, until: float | None) -> None:
        self.until = until
        self.calls = 0

    def __call__(self, now: float) -> float | None:
        self.calls += 1
        return self.until


async def turns(number: int) -> None:
    for _ in range(number):
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("anyio_backend", ASYNCIO_LOOPS)
async def test_all_that_is_offered_in_one_turn_is_done_once_in_the_next() -> None:
    events, instead = [new_wake_event(asyncio_loop()) for _ in range(3)], [Instead(math.inf) for _ in range(3)]
    async with anyio.create_task_group() as group:
        for event, one in zip(events, instead, strict=True):
            group.start_soon(event.wait, math.inf, one)
        await turns(3)
        for number in (1, 2):
            for event in [*events, *events]:
                event.offer()
            assert [one.calls for one in instead] == [number - 1] * 3
            await turns(1)
            assert [one.calls for one in instead] == [number] * 3
        group.cancel_scope.cancel()
    for event in events:
        event.close()


@pytest.mark.parametrize("anyio_backend", ASYNCIO_LOOPS)
async def test_what_is_offered_while_another_is_done_comes_after_it() -> None:
    event, doing, done = new_wake_event(asyncio_loop()), [0], 0

    def instead(now: float) -> float:
        nonlocal done
        assert doing == [0]
        doing[0] = 1
        if done < 3:
            event.offer()
        doing[0] = 0
        done += 1
        return math.inf

    async with anyio.create_task_group() as group:
        group.start_soon(event.wait, math.inf, instead)
        await turns(3)
        event.offer()
        await turns(10)
        assert done == 4
        group.cancel_scope.cancel()
    event.close()


@pytest.mark.parametrize("anyio_backend", ASYNCIO_LOOPS)
@pytest.mark.parametrize("offers", [0, 1])
async def test_a_task_that_is_to_be_woken_does_the_rest_itself(offers: int) -> None:
    event, instead, woken = new_wake_event(asyncio_loop()), Instead(None), False

    async def task() -> None:
        nonlocal woken
        await event.wait(math.inf, instead)
        woken = True

    async with anyio.create_task_group() as group:
        group.start_soon(task)
        await turns(3)
        for _ in range(offers):
            event.offer()
        if not offers:
            event.set()
        with anyio.fail_after(20):
            while not woken:
                await anyio.lowlevel.checkpoint()
                event.offer()
        assert instead.calls == offers
    event.close()


@pytest.mark.parametrize("anyio_backend", ASYNCIO_LOOPS)
async def test_what_was_offered_is_left_to_a_task_that_was_woken_since() -> None:
    event, instead = new_wake_event(asyncio_loop()), Instead(math.inf)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(event.wait, math.inf, instead)
            await turns(3)
            event.offer()
            event.set()
        assert instead.calls == 0
    event.close()


def test_a_loop_does_what_was_offered_in_it_also_after_another_one_in_the_same_thread() -> None:
    async def main() -> int:
        event, instead = new_wake_event(asyncio_loop()), Instead(math.inf)
        task = asyncio.create_task(event.wait(math.inf, instead))
        await asyncio.sleep(0)
        event.offer()
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        return instead.calls

    assert [asyncio.run(main()) for _ in range(3)] == [1, 1, 1]


async def test_an_offer_that_nobody_takes_wakes_the_task() -> None:
    event = new_wake_event(asyncio_loop())
    with anyio.fail_after(20):
        event.offer()
        await event.wait(math.inf)
        async with anyio.create_task_group() as group:
            group.start_soon(event.wait, math.inf)
            await turns(3)
            event.offer()
    event.close()


@pytest.mark.parametrize("anyio_backend", ASYNCIO_LOOPS)
async def test_what_is_done_instead_may_have_the_task_woken_sooner_or_later() -> None:
    event, instead = new_wake_event(asyncio_loop()), Instead(math.inf)
    for first, second in ((1000.0, 0.0005), (0.0005, 0.001)):
        began = anyio.current_time()
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(event.wait, began + first, instead)
                await turns(2)
                instead.until = began + second
                event.offer()
        assert anyio.current_time() >= began + 0.0005
    event.close()


@pytest.mark.parametrize("anyio_backend", ASYNCIO_LOOPS)
async def test_event_loops_of_two_threads_do_so_at_the_same_time() -> None:
    done = 0

    async def offered(instead: Callable[[float], float]) -> None:
        event = new_wake_event(asyncio_loop())
        async with anyio.create_task_group() as group:
            group.start_soon(event.wait, math.inf, instead)
            await turns(3)
            event.offer()
            await turns(3)
            group.cancel_scope.cancel()
        event.close()

    def once(now: float) -> float:
        nonlocal done
        done += 1
        return math.inf

    def beside(now: float) -> float:
        other = threading.Thread(target=anyio.run, args=(offered, once))
        other.start()
        other.join()
        return once(now)

    await offered(beside)
    assert done == 2


@pytest.mark.parametrize("anyio_backend", ASYNCIO_LOOPS)
async def test_a_task_whose_work_fails_keeps_no_other_waiting() -> None:
    first, second, done = new_wake_event(asyncio_loop()), new_wake_event(asyncio_loop()), 0
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))

    def fails(now: float) -> float:
        raise ValueError

    def works(now: float) -> float:
        nonlocal done
        done += 1
        return math.inf

    async with anyio.create_task_group() as group:
        group.start_soon(first.wait, math.inf, fails)
        group.start_soon(second.wait, math.inf, works)
        await turns(3)
        for _ in range(2):
            first.offer()
            second.offer()
            await turns(3)
        group.cancel_scope.cancel()
    assert (done, [type(error) for error in told]) == (2, [ValueError, ValueError])
    for event in (first, second):
        event.close()
