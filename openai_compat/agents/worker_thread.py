"""Runs plain (blocking) agents: each turn in a dedicated thread, read from the event loop.

The server's slots bound the number of threads, not anyio's shared pool of 40. Threads are daemons, so an agent that
never returns cannot keep the interpreter from exiting.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import closing
from typing import Any

import anyio

from ..aio.background import Failure, threadsafe_scheduler
from ..wire.reducer import LARGE_ITEM, size_of

BUFFER = 64
"""Number of items that a plain generator may be ahead of its reader."""


class _Abandoned(Exception):
    """Raised inside the thread when the reader has gone."""


class ThreadRun:
    """Calls a function in a thread and yields the items of the returned generator.

    The generator is iterated and closed in the same thread. A blocking function cannot be interrupted, so a reader that
    leaves waits until the function returns.
    """

    def __init__(self, call: Callable[[], Generator[Any]]) -> None:
        self._call = call
        self._items: deque[Any] = deque()
        self._full = False
        self._room = threading.Condition()
        self._ready = anyio.Event()
        self._waiting = False
        self._abandoned = False
        self._ended = False
        self._failure = Failure()
        self._call_soon = threadsafe_scheduler()

    async def items(self) -> AsyncIterator[Any]:
        """Start the thread and yield its items, then re-raise its exception, if any."""
        # Like a coroutine, the function sees the context variables of its request.
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._run,), name="openai-compat agent", daemon=True).start()
        try:
            while batch := await self._next_batch():
                for item in batch:
                    yield item
        finally:
            await self._abandon()
            self._failure.raise_if_any()

    async def _next_batch(self) -> list[Any]:
        while True:
            with self._room:
                batch = list(self._items)
                self._items.clear()
                self._full = False
                self._room.notify()
                if batch or self._ended:
                    return batch
                self._waiting, self._ready = True, anyio.Event()
            await self._ready.wait()

    async def _abandon(self) -> None:
        with self._room:
            self._abandoned = True
            self._room.notify()
            if self._ended:  # closed late: the event loop may be gone, so do not wait
                return
        with anyio.CancelScope(shield=True):
            while not self._ended:
                await self._next_batch()

    # in the thread

    def _run(self) -> None:
        try:
            with closing(self._call()) as items:
                for item in items:
                    self._put(item)
        except _Abandoned:
            pass
        except BaseException as error:  # SystemExit and KeyboardInterrupt too: the reader decides
            self._failure.keep(error)
        with self._room:
            self._ended = True
        self._wake()

    def _put(self, item: Any) -> None:
        with self._room:
            # Also wake when the reader has gone, or a thread that waits for room would wait for ever.
            self._room.wait_for(lambda: not self._full or self._abandoned)
            if self._abandoned:
                raise _Abandoned
            self._items.append(item)
            # Back-pressure: a generator that is ahead waits in its thread. One large item fills the buffer, or large
            # items would pile up in memory.
            self._full = len(self._items) >= BUFFER or size_of(item) >= LARGE_ITEM
        self._wake()

    def _wake(self) -> None:
        with self._room:
            waiting, self._waiting = self._waiting, False
        # Wake the reader only if it waits: each call into the loop costs as much as several items.
        if waiting:
            try:
                self._call_soon(self._ready.set)
            except RuntimeError:  # the event loop is gone, and the reader with it
                self._abandoned = True
