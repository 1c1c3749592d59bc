"""A task of asyncio that has made its first step when it is there: eager tasks, before and after Python 3.12."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable, Coroutine, Generator
from typing import Any

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
        context, begun = contextvars.copy_context() if context is None else context, _Begun(work)
        task = asyncio.Task(begun, loop=loop, name=name, context=context)
        around = asyncio.current_task(loop)
        # For those who make tasks of their own ("Extending asyncio" in Python's documentation): `asyncio.timeout` and
        # others remember which task they are in, and it has to be this one.
        if around is not None:
            asyncio.tasks._leave_task(loop, around)  # noqa: SLF001
        asyncio.tasks._enter_task(loop, task)  # noqa: SLF001
        try:
            context.run(begun.begin)
        finally:
            asyncio.tasks._leave_task(loop, task)  # noqa: SLF001
            if around is not None:
                asyncio.tasks._enter_task(loop, around)  # noqa: SLF001
        return task, begun.over

    class _Begun(Coroutine[Any, Any, None]):
        """A coroutine whose first step was made by hand: its task is given what that step waits for, and goes on."""

        def __init__(self, work: Coroutine[Any, Any, None]) -> None:
            self._work = work
            self._send: Callable[[Any], Any] = self._hand_over
            self._waits_for: Any = None
            self.over = False

        def begin(self) -> None:
            """Make the first step."""
            try:
                self._waits_for = self._work.send(None)
            except StopIteration:
                self._send, self.over = _is_over, True

        def _hand_over(self, value: None) -> Any:
            waits_for, self._waits_for = self._waits_for, None
            self._send = self._work.send
            return waits_for

        def send(self, value: Any) -> Any:
            """Go on."""
            return self._send(value)

        def throw(self, *error: Any) -> Any:
            """Raise in it, also where it was cancelled before the task's own first step."""
            self._send = self._work.send
            return self._work.throw(*error)

        def close(self) -> None:
            """Close it."""
            self._work.close()

        def __await__(self) -> Generator[Any, Any, None]:
            return self._work.__await__()

    def _is_over(value: None) -> None:
        raise StopIteration
