"""A scripted model server: answers requests one after another from a script, and records them.

Reached over a real socket or through an httpx2 transport; backends must not see a difference.
"""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from tests.transports import listen


@dataclass
class Reply:
    """One answer: a stream of `frames` that then ends, breaks off or hangs."""

    frames: list[bytes] = field(default_factory=list[bytes])
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})
    hang: bool = False
    break_off: bool = False


def error_reply(status: int, body: object, **headers: str) -> Reply:
    return Reply([json.dumps(body).encode()], status, {"content-type": "application/json", **headers})


class BrokenOff(Exception):
    """Raised within a stream to cut the connection."""


class Upstream:
    """The script. `left` is set once a client has disconnected from a hanging answer."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.urls: list[str] = []
        self.left = threading.Event()

    async def frames(self, reply: Reply) -> AsyncIterator[bytes]:
        for frame in reply.frames:
            yield frame
        if reply.break_off:
            raise BrokenOff
        if reply.hang:
            try:
                await anyio.sleep(60)
            finally:
                self.left.set()

    def take(self, body: bytes, headers: Any, url: object) -> Reply:
        self.requests.append(json.loads(body or b"{}"))
        self.urls.append(str(url))
        self.headers.append(dict(headers))
        return self.replies.pop(0)

    def transport(self) -> httpx2.MockTransport:
        async def answer(request: httpx2.Request) -> httpx2.Response:
            reply = self.take(await request.aread(), request.headers, request.url)
            return httpx2.Response(reply.status, headers=reply.headers, stream=_Stream(self.frames(reply)))

        return httpx2.MockTransport(answer)

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve the script on a free port; yields its URL."""

        async def answer(request: Request) -> StreamingResponse:
            reply = self.take(await request.body(), request.headers, request.url)
            return StreamingResponse(self.frames(reply), reply.status, reply.headers)

        app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
        runner = uvicorn.Server(uvicorn.Config(app, http="h11", log_config=None, timeout_graceful_shutdown=3))
        listener = listen()
        thread = threading.Thread(target=runner.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            runner.should_exit = True
            thread.join(10)
            listener.close()
            assert not thread.is_alive()


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, frames: AsyncIterator[bytes]) -> None:
        self._frames = frames

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for frame in self._frames:
                yield frame
        except BrokenOff:
            raise httpx2.RemoteProtocolError("the connection was cut") from None

    async def aclose(self) -> None:
        await self._frames.aclose()
