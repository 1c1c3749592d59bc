"""Shutdown of the program: running turns may finish, but nothing can keep the process alive."""

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

STOP_SECONDS = 10.0
"""Seconds from the end of the grace period to that of the process: stopped agents can clean up."""
STOP_NOW_SECONDS = 1.5
"""Seconds from a second signal to the end of the process."""
EXIT_SECONDS = 3.0
"""Seconds from the end of serving to that of the process, where threads do not return."""
FLUSH_SECONDS = 1.0
"""Seconds, at least, for the last bytes to reach their clients."""

logger = logging.getLogger("openai_compat")


class Runner(uvicorn.Server):
    """A uvicorn server that drains. Running turns have `grace` seconds after the first signal.

    After the first signal new turns get 503 `shutting_down`. Turns that run at the end of the grace period, or at a
    second signal, are stopped, and their clients get an error. Agents that do not stop are abandoned.
    """

    def __init__(self, config: uvicorn.Config, server: Server, grace: float) -> None:
        super().__init__(config)
        self._server = server
        self._grace = grace
        self._signals: list[int] = []
        self._watchdog = Watchdog()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; at the second signal, stop at once."""
        # A signal handler may interrupt itself, so nothing in it blocks.
        self._signals.append(sig)
        self.should_exit = True
        self._watchdog.end_process_in(STOP_NOW_SECONDS if self._has_second_signal else self._grace + STOP_SECONDS)

    @property
    def _has_second_signal(self) -> bool:
        return len(self._signals) > 1

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, within the server's own lifespan."""
        async with self._server.lifespan():
            gc.collect()
            gc.freeze()  # all objects loaded by now stay: the collector need not scan them again and again
            await super().serve(sockets)
        logger.info("stopped")
        self._watchdog.end_process_in(EXIT_SECONDS)  # threads of agents may never return

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain while still listening, so that new requests get a 503; then close all connections."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._grace
        if not await self._drain():
            self._close_connections(at_once=False)  # turns that do not stop must not keep their connections
            end = 0.0
        loop.call_at(max(end, loop.time() + FLUSH_SECONDS), partial(self._close_connections, at_once=True))
        await super().shutdown(sockets)

    async def _drain(self) -> bool:
        """Drain. True if all turns have ended, within the grace period and before a second signal."""
        slots = self._server.services.live.slots
        if slots.used:
            logger.info("%d running turn(s) may end within %g s; a second signal stops them", slots.used, self._grace)
        async with anyio.create_task_group() as group:
            group.start_soon(self._wait_for_second_signal, group.cancel_scope.cancel)
            await self._server.drain(self._grace)
            group.cancel_scope.cancel()
        if self._has_second_signal:
            await self._server.drain(0)
        return slots.used == 0

    async def _wait_for_second_signal(self, then: Callable[[], None]) -> None:
        while not self._has_second_signal:  # noqa: ASYNC110  (a signal handler cannot set an event; uvicorn polls like this as well)
            await anyio.sleep(0.1)
        then()

    def _close_connections(self, *, at_once: bool) -> None:
        """Close all connections, or abort them without their last bytes. An agent sees a disconnect."""
        for connection in list(self.server_state.connections):
            if at_once:
                connection.transport.abort()
            else:
                connection.transport.close()


class Watchdog:
    """A thread that ends the process at a given time, even with stuck threads or a blocked event loop.

    The thread is started at once, since starting one in a signal handler could deadlock.
    """

    def __init__(self) -> None:
        self._times: SimpleQueue[float] = SimpleQueue()  # the only queue that is safe in signal handlers
        threading.Thread(target=self._watch, name="openai-compat watchdog", daemon=True).start()

    def end_process_in(self, seconds: float) -> None:
        """End the process in `seconds`, with exit code 0. The earliest of several times counts."""
        self._times.put(time.monotonic() + seconds)

    def _watch(self) -> None:
        end = self._times.get()
        with suppress(Empty):
            while True:
                end = min(end, self._times.get(timeout=max(0.0, end - time.monotonic())))
        # `sys.exit` would end this thread alone.
        os._exit(0)
