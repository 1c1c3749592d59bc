"""The event loop watch detects its faults, and reports nothing else."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable

import pytest

from tests.trust.loop import watched_loop


def compute(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def run(work: Callable[[], object]) -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        work()

    asyncio.run(main())


def in_a_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_a_step_that_computes_for_long_is_noticed_in_any_thread() -> None:
    with pytest.raises(AssertionError, match="held the event loop"), watched_loop(0.02):
        run(lambda: compute(1))
    with pytest.raises(AssertionError, match="held the event loop"), watched_loop(0.02):
        in_a_thread(lambda: run(lambda: compute(1)))


def test_waiting_collecting_and_the_work_of_other_threads_are_not() -> None:
    garbage = [[] for _ in range(200_000)]
    with watched_loop(0.02):
        run(gc.collect)
        run(lambda: asyncio.get_running_loop().run_in_executor(None, compute, 0.3))
    assert garbage
