"""Plain agents in dedicated threads: order, back-pressure, errors, and readers that leave at any moment."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Generator
from contextlib import aclosing
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from openai_compat.agents.worker_thread import BUFFER, ThreadRun
from openai_compat.wire.reducer import LARGE_ITEM
from tests.support.stepping import agent_threads, eventually

pytestmark = pytest.mark.anyio


async def test_items_arrive_in_order_and_all_of_them() -> None:
    def count() -> Generator[int]:
        yield from range(5000)

    assert [item async for item in ThreadRun(count).items()] == list(range(5000))


async def test_a_generator_is_never_further_ahead_than_the_buffer() -> None:
    made = [0]

    def count() -> Generator[int]:
        for number in range(1000):
            made[0] += 1
            yield number

    read = 0
    async with aclosing(ThreadRun(count).items()) as items:
        async for _ in items:
            read += 1
            await anyio.lowlevel.checkpoint()
            # The batch of the reader, the full buffer, and the item that the generator has just made.
            assert made[0] - read <= 2 * BUFFER + 1
            if read == 500:
                break
    assert made[0] <= 500 + 2 * BUFFER + 1


async def test_a_large_item_fills_the_buffer_by_itself() -> None:
    made = [0]

    def pictures() -> Generator[str]:
        for _ in range(20):
            made[0] += 1
            yield "x" * LARGE_ITEM

    read = 0
    async for _ in ThreadRun(pictures).items():
        read += 1
        assert made[0] - read <= 3
    assert read == 20


@pytest.mark.parametrize("after", [0, 1, BUFFER * 3])
async def test_an_error_comes_after_what_was_said_before_it(after: int) -> None:
    def fails() -> Generator[int]:
        yield from range(after)
        raise KeyError("gone")

    got: list[int] = []

    async def read() -> None:
        async for item in ThreadRun(fails).items():
            got.append(item)

    with pytest.raises(KeyError):
        await read()
    assert got == list(range(after))


async def test_an_error_before_the_generator_exists_is_raised_too() -> None:
    def fails() -> Generator[int]:
        raise KeyError("gone")

    with pytest.raises(KeyError):
        async for _ in ThreadRun(fails).items():
            pass


async def test_nothing_runs_before_somebody_reads() -> None:
    began: list[bool] = []

    def lazy() -> Generator[int]:
        began.append(True)
        yield 1

    run = ThreadRun(lazy)
    await anyio.sleep(0)
    assert not began
    assert not agent_threads()
    assert [item async for item in run.items()] == [1]


@pytest.mark.parametrize("read", [1, BUFFER, BUFFER + 1, BUFFER * 4])
async def test_leaving_closes_the_generator_before_the_reader_goes_on(read: int) -> None:
    closed: list[int] = []

    def endless() -> Generator[int]:
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            closed.append(threading.get_ident())

    items: Any = ThreadRun(endless).items()
    async with aclosing(items):
        async for item in items:
            if item == read:
                break
    assert len(closed) == 1
    assert closed[0] != threading.get_ident()
    await eventually(lambda: not agent_threads())


async def test_a_cancelled_reader_waits_for_the_thread_to_end() -> None:
    began, release, log = threading.Event(), threading.Event(), list[str]()

    def blocking() -> Generator[str]:
        began.set()
        release.wait(20)
        log.append("thread ended")
        yield "too late"

    async def read() -> None:
        try:
            async for item in ThreadRun(blocking).items():
                log.append(item)
        finally:
            log.append("reader left")

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await eventually(began.is_set)
            group.cancel_scope.cancel()
            # The reader stays in its clean-up until the thread has ended.
            with anyio.CancelScope(shield=True):
                for _ in range(20):
                    await anyio.lowlevel.checkpoint()
                assert log == []
                release.set()
    assert log == ["thread ended", "reader left"]


async def test_threads_do_not_keep_the_interpreter_from_exiting() -> None:
    release = threading.Event()

    def blocking() -> Generator[str]:
        release.wait(20)
        yield "done"

    async def read() -> None:
        assert [item async for item in ThreadRun(blocking).items()] == ["done"]

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await eventually(agent_threads)
        assert all(thread.daemon for thread in agent_threads())
        release.set()


def test_a_thread_whose_event_loop_is_gone_ends() -> None:
    release, ended = threading.Event(), threading.Event()

    def outlives() -> Generator[str]:
        try:
            release.wait(20)
            yield "one"
            yield "two"
            raise AssertionError("nobody reads any more")
        finally:
            ended.set()

    async def read() -> None:
        async for _ in ThreadRun(outlives).items():
            pass

    async def wait_for_thread() -> None:
        await eventually(agent_threads)

    # Close the loop while the reader still waits, which no usual runner does.
    loop = asyncio.new_event_loop()
    reader: Any = loop.create_task(read())
    loop.run_until_complete(wait_for_thread())
    loop.close()
    (thread,) = agent_threads()
    release.set()
    assert ended.wait(20)
    thread.join(20)
    reader._log_destroy_pending = False
    reader.get_coro().close()
    del reader
    gc.collect()  # now, not in the middle of another test
