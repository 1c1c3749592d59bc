"""One HTTP exchange from the endpoints' side: the request, and the answer with the headers every answer has."""

from __future__ import annotations

import time

import anyio

from .backend import Principal
from .errors import OpenAICompatError
from .http import HttpRequest, ResponseBody, ResponseStart, Send, encode_headers
from .serializers.errors import error_body, error_frame, error_headers

JSON = ("Content-Type", "application/json")


class ClientTooSlow(Exception):
    """A piece of the answer could not be sent within its deadline; the connection is to be cut."""


class Exchange:
    """A request and its answer.

    Attributes:
        request: what was asked.
        request_id: the `x-request-id` of the answer.
        principal: who asks; set once that is known.
        status: the status that was sent, 0 before.
        streaming: True while pieces of a stream can be written: after its head, before its last one.
        note: a word for the access log about how it ended.
    """

    def __init__(self, request: HttpRequest, send: Send, request_id: str, write_deadline: float) -> None:
        self.request = request
        self.request_id = request_id
        self.principal = Principal("")
        self.status = 0
        self.streaming = False
        self.note = ""
        self.headers: list[tuple[str, str]] = [("X-Request-Id", request_id)]
        self._send = send
        self._write_deadline = write_deadline
        self._began = time.monotonic()

    @property
    def milliseconds(self) -> int:
        """Time since the request came in."""
        return int((time.monotonic() - self._began) * 1000)

    async def answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        """Send a whole answer; JSON that nobody may cache, unless `headers` say otherwise."""
        length = ("Content-Length", str(len(body)))
        await self._start(status, [JSON, ("Cache-Control", "no-store"), length, *headers])
        await self._write(ResponseBody(b"" if self.request.method == "HEAD" else body, more=False))

    async def fail(self, error: OpenAICompatError) -> None:
        """Answer with an error, or end a stream that has begun with it: no finish_reason, no end mark.

        Raises ClientTooSlow if neither is possible, since another answer is half sent.
        """
        self.note = error.code or error.type
        if not self.status:
            await self.answer(error.status, error_body(error), *error_headers(error))
        elif self.streaming:
            await self.end(error_frame(error))
        else:
            raise ClientTooSlow from error

    async def start_stream(self) -> None:
        """Send the head of a stream of server-sent events."""
        headers = [("Content-Type", "text/event-stream; charset=utf-8"), ("Cache-Control", "no-cache, no-store")]
        await self._start(200, [*headers, ("X-Accel-Buffering", "no")])
        self.streaming = True

    async def write(self, data: bytes) -> None:
        """Send a piece of the stream. Raises ClientTooSlow if the client does not take it in time."""
        await self._write(ResponseBody(data))

    async def end(self, data: bytes = b"") -> None:
        """Send the last piece of the stream."""
        self.streaming = False
        await self._write(ResponseBody(data, more=False))

    async def _start(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.status = status
        timing = ("OpenAI-Processing-Ms", str(self.milliseconds))
        await self._write(ResponseStart(status, encode_headers([*self.headers, timing, *headers])))

    async def _write(self, message: ResponseStart | ResponseBody) -> None:
        with anyio.move_on_after(self._write_deadline):
            await self._send(message)
            return
        raise ClientTooSlow
