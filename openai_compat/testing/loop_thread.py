"""An event loop in a separate thread, shared by a set of tests."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, Self, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

Result = TypeVar("Result")


class LoopBlocked(AssertionError):
    """The loop did not return: something on it blocks, or waits forever."""


class LoopThread:
    """Runs coroutines on its own event loop. The thread is a daemon: a task that never ends cannot hang the tests."""

    def __init__(self, backend: str = "asyncio") -> None:
        self._backend = backend
        self._portal: Future[BlockingPortal] = Future()

    def open(self) -> Self:
        """Start the thread, and return without waiting for the loop."""

        async def serve() -> None:
            async with BlockingPortal() as portal:
                self._portal.set_result(portal)
                await portal.sleep_until_stopped()

        def main() -> None:
            anyio.run(serve, backend=self._backend)

        self._thread = threading.Thread(target=main, name="openai-compat tests", daemon=True)
        self._thread.start()
        return self

    def run(self, function: Callable[..., Awaitable[Result]], *args: Any, seconds: float) -> Result:
        """Run a coroutine function to its end. Raises LoopBlocked after `seconds` seconds."""
        call = self._portal.result(10).start_task_soon(function, *args)
        try:
            return call.result(seconds)
        except TimeoutError:
            if call.done():
                raise  # the function's own timeout
            call.cancel()
            raise LoopBlocked(f"no end after {seconds:g} s: the event loop is blocked, or waits for ever") from None

    def close(self, seconds: float = 5.0) -> None:
        """End the loop and cancel the tasks that still run on it. Gives up waiting after `seconds` seconds."""
        portal = self._portal.result(10)
        portal.start_task_soon(portal.stop, True)  # noqa: FBT003  (cancel_remaining)
        self._thread.join(seconds)
