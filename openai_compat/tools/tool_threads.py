"""Plain functions as tools: each call runs in a separate thread, which is abandoned if it does not end in time."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

import anyio

from ..aio.background import Failure, threadsafe_scheduler
from .tool_error import ToolError

T = TypeVar("T")

MAX_ABANDONED = 8
"""Maximum number of abandoned threads of one tool that still run; beyond it, calls are refused."""


class ToolThreads:
    """Runs one tool's calls outside anyio's shared pool of 40 threads, so that a hanging tool cannot stop others."""

    def __init__(self) -> None:
        self._abandoned: list[threading.Thread] = []

    async def run(self, function: Callable[[], T]) -> T:
        """Run `function` in a thread. On cancellation, returns at once; the thread continues, and its result is dropped.

        Raises ToolError if too many abandoned calls still run.
        """
        self._abandoned = [thread for thread in self._abandoned if thread.is_alive()]
        # A thread cannot be killed: a tool that hangs each time would fill the process with threads.
        if len(self._abandoned) >= MAX_ABANDONED:
            raise ToolError("The tool does not answer: earlier calls still run.")
        work = _ThreadWork(function)
        try:
            return await work.run()
        except BaseException:
            if work.thread.is_alive():
                self._abandoned.append(work.thread)
            raise


class _ThreadWork(Generic[T]):
    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._done = anyio.Event()
        self._schedule = threadsafe_scheduler()
        self._results: list[T] = []
        self._failure = Failure()
        # A thread starts without its caller's context variables, for instance those of a trace.
        context = contextvars.copy_context()
        # A daemon, so that a tool that never returns does not keep the process alive.
        self.thread = threading.Thread(target=context.run, args=(self._work,), name="openai-compat tool", daemon=True)

    async def run(self) -> T:
        self.thread.start()
        await self._done.wait()
        self._failure.raise_if_any()
        return self._results[0]

    def _work(self) -> None:
        try:
            self._results.append(self._function())
        except BaseException as error:  # SystemExit too: the caller decides
            self._failure.keep(error)
        with suppress(RuntimeError):  # the event loop is closed, so no one waits
            self._schedule(self._done.set)
