"""How the program ends: running turns may finish, and nothing can keep the process alive."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from types import FrameType

import anyio
import uvicorn

from openai_compat import Server

STOPPING = 10.0
"""Seconds after the grace period in which the process ends, whatever still runs: stopped agents may clean up."""
STOPPING_NOW = 1.5
"""The same after a second signal."""
LEAVING = 3.0
"""The same once all else is done, and there may only be threads that do not return."""
LAST_BYTES = 1.0
"""Seconds for what was written to reach its client, where the grace period leaves less."""

logger = logging.getLogger("openai_compat")


class Runner(uvicorn.Server):
    """uvicorn with an end of its own. `grace` is the time in seconds that running turns have after the first signal.

    The first signal stops new turns (503 `shutting_down`) and waits for the running ones; those that then still run,
    or run when a second signal comes, are stopped, and their clients told so. Agents that will not stop are left.
    """

    def __init__(self, config: uvicorn.Config, server: Server, grace: float) -> None:
        super().__init__(config)
        self._server = server
        self._grace = grace
        self._signals: list[int] = []
        self._watchdog = Watchdog()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; the second time, stop at once. It may be interrupted by itself, and does nothing blocking."""
        self._signals.append(sig)
        self.should_exit = True
        self._watchdog.end_process_in(STOPPING_NOW if self._at_once else self._grace + STOPPING)

    @property
    def _at_once(self) -> bool:
        return len(self._signals) > 1

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, within the server's own lifespan."""
        async with self._server.lifespan():
            gc.collect()
            gc.freeze()  # all that is loaded by now stays: the collector need not go through it again and again
            await super().serve(sockets)
        logger.info("stopped")
        self._watchdog.end_process_in(LEAVING)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain while still listening, so that new requests are told why; then close what is left."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._grace
        if not await self._drained():
            self._cut(at_once=False)
            end = 0.0
        loop.call_at(max(end, loop.time() + LAST_BYTES), partial(self._cut, at_once=True))
        await super().shutdown(sockets)

    async def _drained(self) -> bool:
        """Whether all turns have ended within the grace period, and before a second signal."""
        slots = self._server.services.live.slots
        if slots.used:
            logger.info("%d running turn(s) may end within %g s; a second signal stops them", slots.used, self._grace)
        async with anyio.create_task_group() as group:
            group.start_soon(self._wait_for_second_signal, group.cancel_scope.cancel)
            await self._server.drain(self._grace)
            group.cancel_scope.cancel()
        if self._at_once:
            await self._server.drain(0)
        return slots.used == 0

    async def _wait_for_second_signal(self, then: Callable[[], None]) -> None:
        while not self._at_once:  # noqa: ASYNC110  (a signal sets no event; uvicorn waits for the first one like this)
            await anyio.sleep(0.1)
        then()

    def _cut(self, *, at_once: bool) -> None:
        """Close all connections, with or without their last bytes. To an agent it is as if its client had left."""
        for connection in list(self.server_state.connections):
            if at_once:
                connection.transport.abort()
            else:
                connection.transport.close()


class Watchdog:
    """A thread that ends the process at a given time, whatever still runs: a stuck thread, a blocked event loop.

    The thread is there from the beginning, since a signal handler can start none without the risk of a deadlock.
    """

    def __init__(self) -> None:
        self._times: SimpleQueue[float] = SimpleQueue()  # of all queues the one that signal handlers may put to
        threading.Thread(target=self._watch, name="openai-compat watchdog", daemon=True).start()

    def end_process_in(self, seconds: float) -> None:
        """End the process in `seconds`, with exit code 0, if it still exists then. The earliest time counts."""
        self._times.put(time.monotonic() + seconds)

    def _watch(self) -> None:
        end = self._times.get()
        with suppress(Empty):
            while True:
                end = min(end, self._times.get(timeout=max(0.0, end - time.monotonic())))
        os._exit(0)
