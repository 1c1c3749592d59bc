"""A client at the byte level: one request to a target in this process, which can disconnect at any moment."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

import anyio

from ..aio.background import spawn
from ..http import HttpRequest, ResponseBody, ResponseStart
from .answer import Answer
from .target import Target

GRACE = 1.0
"""Seconds that a target has to end after its client disconnects; then it is cancelled, so that nothing outlives the call."""


class Call:
    """A request that is being answered. The target's `send` returns only after the client has read: nothing is buffered.

    Use it as an async context manager: leaving the context disconnects the client.

    Attributes:
        answer: the answer, as far as it was read.
        ended: set once the target has returned.
    """

    def __init__(self, target: Target, request: HttpRequest) -> None:
        self.answer = Answer()
        self.ended = anyio.Event()
        self._target = target
        self._request = request
        self._left = anyio.Event()
        self._send, self._receive = anyio.create_memory_object_stream[ResponseStart | ResponseBody](0)

    async def __aenter__(self) -> Self:
        self._task = spawn(self._run, "client call", self.ended.set)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.disconnect()
        # Cancelled only at the end: tests look for targets that ignore a disconnected client.
        with anyio.move_on_after(GRACE, shield=True):
            await self.ended.wait()
        if not self.ended.is_set():
            self._task.cancel()
            with anyio.move_on_after(GRACE, shield=True):
                await self.ended.wait()

    async def _run(self) -> None:
        async with self._send:
            try:
                await self._target.answer(self._request, self._forward, self._left)
            except anyio.get_cancelled_exc_class():
                raise
            except Exception as error:
                self.answer.crash = error

    async def _forward(self, message: ResponseStart | ResponseBody) -> None:
        if not self._left.is_set():
            try:
                await self._send.send(message)
            except anyio.BrokenResourceError:  # the client disconnected during the send: servers drop such messages
                self._left.set()

    async def read(self) -> bool:
        """Read the next message into `answer`; False if no more will come."""
        if self.answer.complete:
            return False
        try:
            message = await self._receive.receive()
        except anyio.EndOfStream:
            return False
        self.answer.take(message)
        return True

    async def read_all(self) -> Answer:
        """Read to the end, and wait until the target has returned."""
        while await self.read():
            pass
        await self.ended.wait()
        return self.answer

    def disconnect(self) -> None:
        """Disconnect without notice, whatever the target is doing."""
        self._left.set()
        self._receive.close()

    async def has_stopped_within(self, seconds: float) -> bool:
        """True if the target returns within `seconds` seconds."""
        with anyio.move_on_after(seconds):
            await self.ended.wait()
        return self.ended.is_set()


def http_request(
    method: str, path: str, body: bytes | Mapping[str, Any] = b"", headers: Mapping[str, str] | None = None
) -> HttpRequest:
    """A request as an openai client sends it; `headers` are added to those that every client sends."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    usual = {"host": "localhost", "accept": "application/json", "content-type": "application/json"}
    fields = {**usual, "content-length": str(len(content)), **(headers or {})}
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()]

    async def pieces() -> AsyncIterator[bytes]:
        yield content

    return HttpRequest(method, path, "", raw, pieces())
