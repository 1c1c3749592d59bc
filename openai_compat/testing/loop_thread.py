"""An event loop in a thread beside, for as long as a set of tests needs one and the same."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, Self, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

Result = TypeVar("Result")


class LoopBlocked(AssertionError):
    """The loop did not come back: something on it blocks, or waits without end."""


class LoopThread:
    """Runs coroutines on a loop of its own. The thread is a daemon: a task that never ends cannot hang the tests."""

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
        """Run a coroutine function to its end. Raises LoopBlocked after so many seconds."""
        call = self._portal.result(10).start_task_soon(function, *args)
        try:
            return call.result(seconds)
        except TimeoutError:
            if call.done():
                raise  # its own
            call.cancel()
            raise LoopBlocked(f"no end after {seconds:g} s: the event loop is blocked, or waits for ever") from None

    def close(self, seconds: float = 5.0) -> None:
        """End the loop; what still runs on it is cancelled. Gives up waiting after so many seconds."""
        portal = self._portal.result(10)
        portal.start_task_soon(portal.stop, True)  # noqa: FBT003  (cancel_remaining)
        self._thread.join(seconds)
