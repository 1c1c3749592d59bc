"""A task of asyncio that has made its first step when it is there: eager tasks, before and after Python 3.12."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Coroutine
from typing import Any, cast

from .first_wait import told_of_wait

if sys.version_info >= (3, 12):

    def begun_task(
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, None],
        name: str,
        context: contextvars.Context | None = None,
    ) -> tuple[asyncio.Task[None], bool]:
        """A task that has run `work` up to its first wait, and whether it is over by that. `work` must not raise."""
        task = asyncio.Task(work, loop=loop, name=name, context=context, eager_start=True)
        return task, task.done()

else:

    def begun_task(
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, None],
        name: str,
        context: contextvars.Context | None = None,
    ) -> tuple[asyncio.Task[None], bool]:
        """A task that has run `work` up to its first wait, and whether it is over by that. `work` must not raise."""
        context = contextvars.copy_context() if context is None else context
        # It makes the first step of `work`, and is left: its task is then given what that step waits for, and goes on.
        begun = cast("Coroutine[Any, Any, None]", told_of_wait(work, None))
        task = asyncio.Task(begun, loop=loop, name=name, context=context)
        around = asyncio.current_task(loop)
        # For those who make tasks of their own ("Extending asyncio" in Python's documentation): `asyncio.timeout` and
        # others remember which task they are in, and it has to be this one.
        if around is not None:
            asyncio.tasks._leave_task(loop, around)  # noqa: SLF001
        asyncio.tasks._enter_task(loop, task)  # noqa: SLF001
        over = False
        try:
            context.run(begun.send, None)
        except StopIteration:
            over = True
        finally:
            asyncio.tasks._leave_task(loop, task)  # noqa: SLF001
            if around is not None:
                asyncio.tasks._enter_task(loop, around)  # noqa: SLF001
        return task, over
