"""One HTTP exchange from the endpoints' side: the request, and the answer with the headers every answer has."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import anyio

from ..aio.background import let_go
from ..aio.timers import WriteTimeout
from ..backend import Principal
from ..errors import OpenAICompatError
from ..http import ClientDisconnected, ClientTooSlow, HttpRequest, ResponseBody, ResponseStart, Send, encode_headers
from .answer_form import OPENAI_ERRORS, SSE, ErrorForm

JSON = ("Content-Type", "application/json")


NOBODY = Principal("")


def whole_headers(body: bytes) -> list[tuple[str, str]]:
    """The headers of a whole answer: JSON that nobody may cache."""
    # A cache on the way would hand one caller's answer to another.
    return [JSON, ("Cache-Control", "no-store"), ("Content-Length", str(len(body)))]


@dataclass(slots=True)
class RecordedAnswer:
    """A copy of an answer. `body` is None once there was more than `left` bytes of it; `complete` at its end."""

    left: int
    complete: bool = False
    headers: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    body: list[bytes] | None = field(default_factory=list[bytes])

    def add(self, piece: ResponseBody) -> None:
        """Copy a piece of the body."""
        self.left -= len(piece.data)
        self.complete = not piece.more
        if self.left < 0:
            self.body = None
        elif self.body is not None:
            self.body.append(piece.data)


class Exchange:
    """A request and its answer.

    Attributes:
        request: what was asked.
        request_id: the `x-request-id` of the answer.
        principal: who asks; set once that is known.
        status: the status that was sent, 0 before.
        streaming: True while pieces of a stream can be written: after its head, before its last one.
        complete: True once the last piece was given to the transport.
        headers: what every answer to this request carries.
        about: headers about the answer's content, which belong to it wherever it is repeated.
        failed: whether the agent that was started has failed, so that the client was told not to run it again.
        on_failed: who is told, as the last of the failure's answer is sent.
        note: a word for the access log about how it ended.
        on_begun: who is told, once an agent is started or has been before.
        recording: a copy of the answer, if one was asked for.
        errors, framing: of the API that the request is for, once that is known.
        scope: what is cancelled when the client does not read: the whole work on the request.
    """

    def __init__(self, request: HttpRequest, send: Send, request_id: str, write_deadline: float) -> None:
        self.request = request
        self.request_id = request_id
        self.principal = NOBODY
        self.status = 0
        self.streaming = False
        self.complete = False
        self.note = ""
        self._agent_started = False
        self.failed = False
        self.on_failed: Callable[[Exchange], None] | None = None
        self.on_begun: Callable[[], object] | None = None
        self.recording: RecordedAnswer | None = None
        self.headers: list[tuple[str, str]] = [("X-Request-Id", request_id)]
        self.errors: ErrorForm = OPENAI_ERRORS
        self.framing = SSE
        self.about: list[tuple[str, str]] = []
        self.scope = anyio.CancelScope()
        self._write_timeout = WriteTimeout(self.scope)
        self._detachable = False
        self._gone = False
        self._send = send
        self._write_deadline = write_deadline
        self._began = time.monotonic()

    @property
    def milliseconds(self) -> int:
        """Time since the request came in."""
        return int((time.monotonic() - self._began) * 1000)

    @property
    def agent_started(self) -> bool:
        """True once an agent was started, so that the request must not be run again silently."""
        return self._agent_started

    @agent_started.setter
    def agent_started(self, started: bool) -> None:
        self._agent_started = started
        self.has_begun()

    def has_begun(self) -> None:
        """From now on others say how long it may take."""
        if self.on_begun is not None:
            self.on_begun()

    def close(self) -> None:
        """Stop the timer of writes; nothing is sent afterwards."""
        self._write_timeout.close()

    def record(self, limit: int) -> None:
        """Keep a copy of the answer, up to `limit` bytes of body."""
        self.recording = RecordedAnswer(limit)

    def allow_detach(self) -> None:
        """Treat write failures as a disconnect, not as an error, from now on."""
        self._detachable = True

    def detach(self) -> None:
        """The client has left, but the work goes on: nothing more is sent."""
        self._gone = True

    async def repeat(
        self, status: int, headers: Iterable[tuple[str, str]], body: bytes, *more: tuple[str, str]
    ) -> None:
        """Send a recorded answer again."""
        await self._start(status, [*headers, *more])
        await self._write(ResponseBody(body, more=False))

    async def answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        """Send a whole answer; JSON that nobody may cache, unless `headers` say otherwise."""
        said = {name.lower() for name, _ in headers}
        usual = [(name, value) for name, value in whole_headers(body) if name.lower() not in said]
        await self._start(status, [*usual, *headers])
        await self._write(ResponseBody(body, more=False))

    def has_failed(self, error: OpenAICompatError) -> None:
        """Note what goes wrong, and whether the agent has done it."""
        self.note = error.code or error.type
        self.failed = self.agent_started and error.should_retry is not True

    async def fail(self, error: OpenAICompatError, closing: bytes = b"") -> None:
        """Answer with an error, or end a stream that has begun with it: no finish_reason, no end mark.

        `closing` comes before it in a stream, for APIs in which what is open has to be closed first.

        Raises ClientTooSlow if neither is possible, since another answer is half sent.
        """
        self.has_failed(error)
        let_go(error)
        if not self.status:
            await self.answer(error.status, self.errors.body(error), *self.errors.headers(error))
        elif self.streaming:
            # Without `[DONE]`: a client that only looks for the end mark would take half an answer for a whole one.
            await self.end(closing + self.errors.frame(error))
        else:
            raise ClientTooSlow from error

    async def start_stream(self) -> None:
        """Send the head of a stream."""
        headers = [("Content-Type", self.framing.content_type), ("Cache-Control", "no-cache, no-store")]
        # nginx would hold the stream back otherwise.
        await self._start(200, [*headers, ("X-Accel-Buffering", "no")])
        self.streaming = True

    async def write(self, data: bytes) -> None:
        """Send a piece of the stream. A client that does not take it in time is cut."""
        await self._write(ResponseBody(data))

    async def end(self, data: bytes = b"") -> None:
        """Send the last piece of the stream."""
        self.streaming = False
        await self._write(ResponseBody(data, more=False))

    async def _start(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.status = status
        headers = [*self.about, *headers]
        if self.recording is not None:
            self.recording.headers = headers
        timing = ("OpenAI-Processing-Ms", str(self.milliseconds))
        await self._deliver(ResponseStart(status, encode_headers([*self.headers, timing, *headers])))

    async def _write(self, body: ResponseBody) -> None:
        if self.recording is not None:
            self.recording.add(body)
        self.complete = not body.more
        if self.complete and self.failed and self.on_failed is not None:
            self.on_failed(self)  # the client may ask again while the agent is still being stopped
        # An answer to HEAD has the headers of GET and no content (RFC 9110, 9.3.2).
        await self._deliver(ResponseBody(b"", body.more) if self.request.method == "HEAD" else body)

    async def _deliver(self, message: ResponseStart | ResponseBody) -> None:
        if self._detachable:
            await self._try_to_deliver(message)
            return
        self._write_timeout.start(self._write_deadline)
        try:
            await self._send(message)
        finally:
            self._write_timeout.stop()

    async def _try_to_deliver(self, message: ResponseStart | ResponseBody) -> None:
        """Where the work goes on in any case, a client that cannot be written to has left."""
        with anyio.move_on_after(self._write_deadline), suppress(ClientDisconnected):
            if not self._gone:
                await self._send(message)
            return
        self._gone = True
