"""Servers with one defect: the correct output of a good server is changed on its way out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import anyio.lowlevel

from openai_compat import Server
from openai_compat.aio.background import spawn
from openai_compat.http import HttpRequest, ResponseBody, ResponseStart, Send
from tests.testing.agents import reference

RUNS_ON = 1.1
"""Seconds for which a server with that defect continues after its client has disconnected."""

Event = Callable[[bytes, dict[str, Any]], bytes]
Chunk = Callable[[dict[str, Any]], Any]


async def whole_body(request: HttpRequest) -> tuple[dict[str, Any], HttpRequest]:
    """The request's JSON, and a copy of the request whose body is unread."""
    content = b"".join([piece async for piece in request.body])
    return parsed(content), with_body(request, content)


def with_body(request: HttpRequest, content: bytes) -> HttpRequest:
    async def body() -> AsyncIterator[bytes]:
        yield content

    return HttpRequest(request.method, request.path, request.query, request.headers, body())


def parsed(content: bytes) -> dict[str, Any]:
    try:
        return json.loads(content)
    except ValueError:
        return {}


class Distorted(Server):
    """Changes its answers.

    `event` gets each event of a stream as bytes and the request, `chunk` each JSON event (and may return several, or
    none), `whole` the JSON of plain answers, `error` that of error answers, `head` the headers.
    """

    def __init__(
        self,
        agent: Any = reference,
        *,
        event: Event | None = None,
        chunk: Chunk | None = None,
        whole: Chunk | None = None,
        error: Chunk | None = None,
        head: Callable[[dict[str, str], int], None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(agent, **options)
        self._event = event or (chunked(chunk) if chunk else lambda data, asked: data)
        self._whole = whole or (lambda body: body)
        self._error = error or (lambda body: body)
        self._head = head or (lambda headers, status: None)

    async def handle(self, request: HttpRequest, send: Send) -> None:
        asked, request = await whole_body(request)
        start = ResponseStart(0, [])

        async def distorted(message: ResponseStart | ResponseBody) -> None:
            nonlocal start
            if isinstance(message, ResponseStart):
                start = message
                await send(self._started(message))
            else:
                await send(ResponseBody(self._body(message.data, start, asked), message.more))

        await super().handle(request, distorted)

    def _started(self, start: ResponseStart) -> ResponseStart:
        headers = {k.decode(): v.decode() for k, v in start.headers if k != b"content-length"}
        self._head(headers, start.status)
        return ResponseStart(start.status, [(k.encode(), v.encode()) for k, v in headers.items()])

    def _body(self, data: bytes, start: ResponseStart, asked: dict[str, Any]) -> bytes:
        if start.status >= 400:
            return json.dumps(self._error(json.loads(data))).encode()
        if (b"content-type", b"application/json") in start.headers:
            return json.dumps(self._whole(json.loads(data))).encode()
        events = [event + b"\n\n" for event in data.split(b"\n\n") if event]
        return b"".join([self._event(event, asked) for event in events])


def chunked(change: Chunk) -> Event:
    def event(data: bytes, asked: dict[str, Any]) -> bytes:
        value = parsed(data.removeprefix(b"data: "))
        if not value:
            return data
        changed = change(value)
        values = changed if isinstance(changed, list) else [] if changed is None else [changed]
        return b"".join([b"data: " + json.dumps(value).encode() + b"\n\n" for value in values])

    return event


class Buffering(Server):
    """Sends everything at the end."""

    async def handle(self, request: HttpRequest, send: Send) -> None:
        messages: list[Any] = []

        async def keep(message: Any) -> None:
            messages.append(message)

        await super().handle(request, keep)
        for message in messages:
            await send(message)


class RunningTwice(Server):
    """Runs the agent a second time after a good answer, and discards the second answer."""

    async def handle(self, request: HttpRequest, send: Send) -> None:
        content = b"".join([piece async for piece in request.body])

        good = request.method == "POST"

        async def noted(message: Any) -> None:
            nonlocal good
            good = good and getattr(message, "status", 200) == 200 and b'"error"' not in getattr(message, "data", b"")
            await send(message)

        async def nowhere(message: Any) -> None:
            pass

        await super().handle(with_body(request, content), noted)
        if good:
            await super().handle(with_body(request, content), nowhere)


class RunningOn(Server):
    """Continues for a while after its client has left at one moment: `plain`, `before`, `between` or `writing`."""

    def __init__(self, moment: str) -> None:
        super().__init__(reference)
        self._moment = moment

    async def handle(self, request: HttpRequest, send: Send) -> None:
        asked, request = await whole_body(request)
        moment, over = "before" if asked.get("stream") else "plain", anyio.Event()

        async def noted(message: Any) -> None:
            nonlocal moment
            if isinstance(message, ResponseStart) or moment == "plain":
                await send(message)
                return
            moment = "writing"
            await send(message)
            for _ in range(5):  # a client that leaves now releases this write, just before the server notices
                await anyio.lowlevel.checkpoint()
            moment = "between"

        async def work() -> None:
            await Server.handle(self, request, noted)

        task = spawn(work, "running on", over.set)
        try:
            await over.wait()
        finally:
            with anyio.CancelScope(shield=True):
                if moment == self._moment and not task.done:
                    with anyio.move_on_after(RUNS_ON):
                        await over.wait()
                task.cancel()
                await task.wait()
