"""Work whose first step is made by hand, so that it is known whether it waits at all."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from openai_compat.aio.first_wait import told_of_wait
from tests.loops import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


async def test_work_that_does_not_wait_tells_nobody() -> None:
    log: list[str] = []

    async def work() -> None:
        log.append("done")

    await told_of_wait(work(), lambda: log.append("waits"))
    assert log == ["done"]


async def test_work_that_waits_tells_so_once_and_goes_on_in_its_task() -> None:
    log: list[str] = []
    task = anyio.get_current_task()

    async def work() -> None:
        for _ in range(3):
            await anyio.sleep(0)
            log.append("goes on")
        with anyio.move_on_after(0):
            await anyio.sleep_forever()
        assert anyio.get_current_task() == task

    await told_of_wait(work(), lambda: log.append("waits"))
    assert log == ["waits", "goes on", "goes on", "goes on"]


@pytest.mark.parametrize("steps", [0, 1, 2])
async def test_what_work_raises_is_raised_whenever_it_comes(steps: int) -> None:
    async def work() -> None:
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        raise LookupError("of the work")

    with pytest.raises(LookupError, match="of the work"):
        await told_of_wait(work(), lambda: None)


@pytest.mark.parametrize("steps", [0, 1, 2])
async def test_work_that_is_cancelled_cleans_up_by_waiting(steps: int) -> None:
    log: list[str] = []

    async def work() -> None:
        try:
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            scope.cancel()
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
                await anyio.lowlevel.checkpoint()
            log.append("cleaned up")

    with anyio.CancelScope() as scope:
        await told_of_wait(work(), lambda: None)
    assert (log, scope.cancelled_caught) == (["cleaned up"], True)
