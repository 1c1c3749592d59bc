"""In-process requests, for adapters without an ASGI server."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import suppress

import anyio
from anyio.from_thread import BlockingPortal, BlockingPortalProvider

from openai_compat import Server
from openai_compat.aio.background import Task, spawn
from openai_compat.http import ClientDisconnected, ClientTooSlow, HttpRequest, ResponseBody, ResponseStart

BUFFERED_MESSAGES = 4
"""Messages buffered for the reader, so that the server does not wait until each one is read, as on a socket."""


class InProcessCall:
    """A request that starts when its head is requested, with a live response. Closing the call is a disconnect."""

    def __init__(self, server: Server, request: HttpRequest) -> None:
        self.thread: int | None = None  # of the event loop, once started; see `_close_and_release`
        self._server = server
        self._request = request
        # Bounded, so that a slow reader slows the agent, as on a socket.
        self._send, self._receive = anyio.create_memory_object_stream[ResponseStart | ResponseBody](BUFFERED_MESSAGES)
        self._task: Task | None = None
        self._early_pieces: list[ResponseBody] = []  # arrived with the head
        self._complete = False

    async def _run(self) -> None:
        # In both cases the reader gets a truncated response, or has closed it.
        async with self._send:
            with suppress(ClientTooSlow, ClientDisconnected):
                await self._server.handle(self._request, self._forward, self._has_room)

    def _has_room(self) -> bool:
        return self._send.statistics().current_buffer_used < BUFFERED_MESSAGES

    async def _forward(self, message: ResponseStart | ResponseBody) -> None:
        try:
            try:
                self._send.send_nowait(message)
            except anyio.WouldBlock:
                await self._send.send(message)
        except anyio.BrokenResourceError:
            raise ClientDisconnected from None

    async def start(self, seconds: float | None = None) -> ResponseStart | None:
        """Start, and return the response's head, or None if the response was cut off. Raises TimeoutError after `seconds`."""
        self.thread = threading.get_ident()
        self._task = spawn(self._run, "request", lambda: None)
        start: ResponseStart | None = None
        for message in await self._receive_buffered(seconds):
            if isinstance(message, ResponseStart):
                start = message
            else:
                self._early_pieces.append(message)
        return start

    async def receive(self, seconds: float | None = None) -> list[ResponseBody]:
        """Wait for the next pieces of the body; an empty list is the end. Raises TimeoutError after `seconds`."""
        pieces, self._early_pieces = self._early_pieces, []
        return pieces or [piece for piece in await self._receive_buffered(seconds) if isinstance(piece, ResponseBody)]

    async def _receive_buffered(self, seconds: float | None) -> list[ResponseStart | ResponseBody]:
        messages: list[ResponseStart | ResponseBody] = []
        try:
            with anyio.fail_after(seconds):
                messages.append(await self._receive.receive())
            # Drain the buffer: each call costs a caller in another thread a wait for this event loop.
            while True:
                messages.append(self._receive.receive_nowait())
        except (anyio.EndOfStream, anyio.WouldBlock):
            last = messages[-1] if messages else None
            self._complete = isinstance(last, ResponseBody) and not last.more
            return messages

    async def aclose(self) -> None:
        """Cancel the request, unless its response is complete, and wait until it has ended."""
        with anyio.CancelScope(shield=True):
            self._receive.close()
            if self._task is not None and not self._task.done:
                if not self._complete:
                    self._task.cancel()
                await self._task.wait()

    async def wait_settled(self) -> None:
        """Wait until the server's hooks have been called for everything that has ended."""
        await self._server.services.live.runner.hooks.wait_settled()


class BlockingCall:
    """An InProcessCall for blocking callers. It runs in an event loop in another thread, leased until `close`."""

    def __init__(self, portals: BlockingPortalProvider, server: Server, request: HttpRequest) -> None:
        # `start` runs it, when the caller can already close it: Ctrl-C may raise KeyboardInterrupt in this thread at any time.
        self._call = InProcessCall(server, request)
        self._portal = portals.__enter__()
        # Also called on garbage collection and at exit: an open lease would hang the interpreter at its end.
        self.close: Callable[[], object] = weakref.finalize(self, _close_and_release, portals, self._portal, self._call)

    def start(self, seconds: float | None = None) -> ResponseStart | None:
        """Same as `InProcessCall.head`."""
        return self._portal.call(self._call.start, seconds)

    def receive(self, seconds: float | None = None) -> list[ResponseBody]:
        """Same as `InProcessCall.receive`."""
        return self._portal.call(self._call.receive, seconds)


def _close_and_release(portals: BlockingPortalProvider, portal: BlockingPortal, call: InProcessCall) -> None:
    if threading.get_ident() == call.thread:  # collected in the loop's own thread, which must not block
        threading.Thread(target=_close_and_release, args=(portals, portal, call), daemon=True).start()
        return
    try:
        portal.call(call.aclose)
        portal.call(call.wait_settled)  # the event loop ends with the last call
    finally:
        portals.__exit__(None, None, None)
