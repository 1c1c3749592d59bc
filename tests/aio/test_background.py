"""Tasks that outlive the call that started them, on either event loop."""

from __future__ import annotations

import contextvars

import anyio
import anyio.lowlevel
import pytest

from openai_compat.aio.background import spawn
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
