"""Tasks that outlive the call that started them, on either event loop."""

from __future__ import annotations

import asyncio
import contextvars

import anyio
import anyio.lowlevel
import pytest

from openai_compat.aio.background import drop_tracebacks, spawn, spawn_at_once
from tests.loops import anyio_backend as anyio_backend
from tests.support.stepping import eventually, tasks

pytestmark = pytest.mark.anyio
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def test_a_task_runs_beside_its_starter_and_says_when_it_is_over() -> None:
    log: list[str] = []

    async def body() -> None:
        log.append("began")
        await anyio.lowlevel.checkpoint()
        log.append("ended")

    task = spawn(body, "test", lambda: log.append("over"))
    assert (log, task.done) == ([], False)
    with anyio.fail_after(20):
        await task.wait()
    assert task.done
    await eventually(lambda: log == ["began", "ended", "over"])
    await task.wait()


async def test_a_cancelled_task_cleans_up_and_is_over() -> None:
    log: list[str] = []

    async def body() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append("cleaned up")

    before = tasks()
    task = spawn(body, "test", lambda: log.append("over"))
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
    task.cancel()
    with anyio.fail_after(20):
        await task.wait()
    await eventually(lambda: log == ["cleaned up", "over"])
    assert tasks() == before


async def test_a_task_that_is_cancelled_before_it_began_is_over_too() -> None:
    log: list[str] = []

    async def body() -> None:
        await anyio.lowlevel.checkpoint()
        log.append("never")

    task = spawn(body, "test", lambda: log.append("over"))
    task.cancel()
    with anyio.fail_after(20):
        await task.wait()
    await eventually(lambda: log == ["over"])


async def test_a_task_is_not_cancelled_with_its_starter() -> None:
    log: list[str] = []
    go = anyio.Event()

    async def body() -> None:
        await go.wait()
        log.append("ended")

    with anyio.CancelScope() as scope:
        task = spawn(body, "test", lambda: None)
        scope.cancel()
        await anyio.lowlevel.checkpoint()
    assert not task.done
    go.set()
    with anyio.fail_after(20):
        await task.wait()
    assert log == ["ended"]


async def test_a_task_has_a_copy_of_its_starters_context() -> None:
    seen: list[str] = []

    async def body() -> None:
        seen.append(variable.get())
        variable.set("the task's")

    variable.set("the starter's")
    task = spawn(body, "test", lambda: None)
    with anyio.fail_after(20):
        await task.wait()
    assert (seen, variable.get()) == (["the starter's"], "the starter's")


# tasks that start at once


async def test_a_task_that_never_waits_may_be_over_when_it_is_there() -> None:
    log: list[str] = []

    async def body() -> None:
        log.append("said")

    task = spawn_at_once(body, "test", lambda: log.append("over"))
    with anyio.fail_after(20):
        await task.wait()
    await eventually(lambda: log == ["said", "over"])
    assert task.done


async def test_a_task_that_begins_at_once_goes_on_after_what_it_waits_for() -> None:
    log: list[str] = []
    go = anyio.Event()

    async def body() -> None:
        log.append("began")
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        await go.wait()
        log.append("ended")

    task = spawn_at_once(body, "test", lambda: log.append("over"))
    await eventually(lambda: log == ["began"])
    assert not task.done
    go.set()
    await eventually(lambda: log == ["began", "ended", "over"])
    assert task.done


@pytest.mark.parametrize("steps", [0, 1, 3])
async def test_a_task_that_began_at_once_cleans_up_whenever_it_is_cancelled(steps: int) -> None:
    log: list[str] = []

    async def body() -> None:
        try:
            log.append("began")
            await anyio.sleep_forever()
        finally:
            await anyio.lowlevel.cancel_shielded_checkpoint()
            log.append("cleaned up")

    before = tasks()
    task = spawn_at_once(body, "test", lambda: log.append("over"))
    await eventually(lambda: log == ["began"])  # at once on asyncio, before the task has run its own first step
    for _ in range(steps):
        await anyio.lowlevel.checkpoint()
    task.cancel()
    with anyio.fail_after(20):
        await task.wait()
    await eventually(lambda: log == ["began", "cleaned up", "over"])
    assert tasks() == before


async def test_a_task_that_begins_at_once_has_context_variables_of_its_own() -> None:
    seen: list[str] = []

    async def body() -> None:
        seen.append(variable.get())
        variable.set("changed")
        await anyio.lowlevel.checkpoint()
        seen.append(variable.get())

    variable.set("mine")
    task = spawn_at_once(body, "test", lambda: None)
    with anyio.fail_after(20):
        await task.wait()
    assert (seen, variable.get()) == (["mine", "changed"], "mine")


def test_a_timeout_that_is_entered_in_the_first_step_is_the_tasks_own() -> None:
    """`asyncio.timeout` remembers its task: if that were the caller's, an agent's timeout would end the request."""
    log: list[object] = []

    async def body() -> None:
        log.append(asyncio.current_task())
        try:
            async with asyncio.timeout(0.001):
                await asyncio.sleep(20)
        except TimeoutError:
            log.append("timed out")
        log.append(asyncio.current_task())

    async def starter() -> None:
        around = asyncio.current_task()
        task = spawn_at_once(body, "test", lambda: None)
        assert asyncio.current_task() is around
        assert len(log) == 1
        await task.wait()
        assert log[1] == "timed out"
        assert log[0] is log[2] is not around

    asyncio.run(starter())


def test_an_error_that_is_let_go_leads_to_no_frame_by_whatever_it_came_of() -> None:
    def fail(first: Exception) -> None:
        try:
            raise first
        except Exception as error:
            raise ValueError("the second") from error

    first = KeyError("the first")
    with pytest.raises(ValueError, match="the second") as caught:
        fail(first)
    first.__cause__ = caught.value  # a ring
    drop_tracebacks(caught.value)
    assert (caught.value.__traceback__, first.__traceback__) == (None, None)
