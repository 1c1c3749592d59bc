"""One HTTP exchange as endpoints see it: the request and its body, and the answer with the headers of every answer."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress

import anyio

from ..agent_request import Principal
from ..agents.adapt import close
from ..aio.background import Cancellable, drop_tracebacks, spawn_later
from ..aio.off_loop import run_off_loop
from ..aio.timers import ScopeTimeout, asyncio_loop, new_scope
from ..errors import OpenAICompatError, RequestTimeout, RequestTooLarge
from ..http import (
    ClientDisconnected,
    ClientTooSlow,
    HasRoom,
    HttpRequest,
    RawHeaders,
    ResponseBody,
    ResponseStart,
    Send,
    decode_headers,
    encode_headers,
)
from ..policies.content import check_content_type, content_coding, decompress, too_large
from ..policies.hooks import RefusalReason
from ..policies.limits import Deadlines, Limits
from ..turns.refusals import refusal_reason
from ..turns.turn_log import TurnLog
from ..wire.json import QUICK_BYTES, check_values
from .answer_form import OPENAI_ERRORS, SSE, ErrorForm, RecordedAnswer, whole_headers

NOBODY = Principal("")


WATCH_DELAY = 0.01
"""Seconds after which a task watches for the client to leave. Most answers are sent earlier, and need no such task."""

MAX_DRAINED = 64 * 1024
"""Largest body that is still read although it is refused, in bytes."""

IGNORED_HEADER = "X-Ignored-Parameters"
"""The header that names the parameters which the agent does not pass on to its model."""


class Exchange:
    """A request and its answer.

    Attributes:
        request: the request.
        request_id: the `x-request-id` of the answer.
        route: the template of its path, once known.
        principal: the caller, once known.
        status: the status that was sent, 0 before.
        streaming: True while pieces of a stream can be written: after the head, before the last piece.
        complete: True once the last piece was passed to the transport.
        headers: the headers of every answer to this request.
        about: headers about the answer's content, which are repeated with the answer.
        failed: True if an agent was started and has failed, so that the client was told not to run it again.
        on_failed: called as the last piece of a failure's answer is sent.
        note: a word for the access log about how it ended.
        refused: why no agent was started, for metrics and logs.
        began: when the request came in (`time.monotonic`).
        turn: what the access log shows of its turn.
        goes_on: True while the work goes on although its client has left.
        on_over: called once that work is over.
        on_begun: called once an agent is started, or already runs for the same idempotency key.
        recording: a copy of the answer, if one is needed.
        errors, framing: the formats of the request's API, once known.
        loop: the event loop of asyncio; None on trio.
        scope: all work on the request. It is cancelled when the client leaves, or is too slow to send or read.
    """

    # Defaults that most requests keep belong to the class: an object with 30 attributes has its own dict, and takes three
    # times as long to make.
    route: str | None = None
    principal = NOBODY
    errors: ErrorForm = OPENAI_ERRORS
    framing = SSE
    status = 0
    streaming = False
    complete = False
    note = ""
    failed = False
    _agent_started = False
    on_failed: Callable[[Exchange], None] | None = None
    on_begun: Callable[[], object] | None = None
    recording: RecordedAnswer | None = None
    refused: RefusalReason | None = None
    turn: TurnLog | None = None
    goes_on = False
    on_over: Callable[[Exchange], None] | None = None
    _detachable = False
    _gone = False
    _left = False
    _waiting = False
    _watched = False
    _watcher: Cancellable | None = None
    _timeout: ScopeTimeout | None = None
    _body_within: float | None = None

    def __init__(
        self,
        request: HttpRequest,
        send: Send,
        request_id: str,
        write_deadline: float,
        has_room: HasRoom | None = None,
    ) -> None:
        self.request = request
        self.request_id = request_id
        self.headers: list[tuple[str, str]] = []
        self.about: list[tuple[str, str]] = []
        self.loop = asyncio_loop()
        self.scope = new_scope(self.loop)
        self._send = send
        self._has_room = has_room
        self._write_deadline = write_deadline
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time since the request came in."""
        return time.monotonic() - self.began

    @property
    def milliseconds(self) -> int:
        """The same time in whole milliseconds, for headers and logs."""
        return int((time.monotonic() - self.began) * 1000)

    @property
    def agent_started(self) -> bool:
        """True once an agent was started, so that the request must not be run again silently."""
        return self._agent_started

    @agent_started.setter
    def agent_started(self, started: bool) -> None:
        self._agent_started = started
        if self.on_begun is not None:
            self.on_begun()

    def has_begun(self) -> None:
        """Note that an agent runs for this request, or for its idempotency key: the deadline to start one no longer applies."""
        if self.on_begun is not None:
            self.on_begun()

    async def read_body(self, limits: Limits, deadlines: Deadlines) -> bytes:
        """Read a JSON body. Refuses it as soon as it is known to be too long or too slow, or to hold too many values.

        A body that a web page sends as another type is refused before it is read: see `check_content_type`.
        """
        if self.request.first.get(b"content-type") != b"application/json":  # nearly always it is
            check_content_type(self.request)
        received: list[bytes] = []
        await self.feed_body(limits.body, deadlines.body, received.append)
        body = b"".join(received)
        if len(body) > QUICK_BYTES:
            # Checking a body of 100,000 values would block other requests for too long.
            await run_off_loop(check_values, body, limits.values)
        elif len(body) > limits.values:  # each takes more than a byte
            check_values(body, limits.values)
        return body

    async def feed_body(self, limit: int, seconds: float, feed: Callable[[bytes], None]) -> None:
        """Pass a body to `feed` piece by piece: at most `limit` bytes as sent and as decompressed, within `seconds`."""
        request = self.request
        # Before anything is read: the first read tells a client that sent `Expect: 100-continue` to go on.
        coding = content_coding(request) if b"content-encoding" in request.first else "identity"
        length = request.first.get(b"content-length", b"")
        # `int` raises ValueError for thousands of digits. A longer or unknown length is counted as the body arrives.
        announced = int(length) if length.isdigit() and len(length) < 20 else math.inf
        if limit < announced < math.inf:
            raise too_large(limit)
        pieces = request.body if coding == "identity" else decompress(coding, request.body, limit)
        # For the whole body: a client that sends one byte per second is never silent for long.
        self._body_within = seconds
        self._watched = True
        if self._waiting:
            self.watch_client()
        size = 0  # a chunked body announces no length, and a decompressed body has another
        try:
            async for piece in pieces:
                size += len(piece)
                if size > limit:
                    raise too_large(limit)
                feed(piece)
        except RequestTooLarge:
            if announced <= MAX_DRAINED:
                # Read to its end: data that arrives after the answer resets the connection, and the answer is lost.
                async for _ in request.body:
                    pass
            raise
        finally:
            # A generator that has come to its end has no frame any more, and needs no closing.
            if hasattr(pieces, "aclose") and getattr(pieces, "ag_frame", pieces) is not None:
                await close(pieces)
        # From here on, the client can only leave.
        self._body_within = None
        if self._timeout is not None:
            self._timeout.stop()
            self.watch_client()

    def watch_client(self) -> None:
        """From now on, notice if the client leaves or does not send its body, once the work waits for something."""
        self._watched = True
        if not self._waiting or self._watcher is not None:
            return
        if self.request.left is not None:
            self._watcher = spawn_later(WATCH_DELAY, self._watch_until_left, "client")
        elif self._body_within is not None:
            self._start_timeout(self._body_within)

    def waits(self) -> None:
        """Note that the work waits for the first time: nothing could be noticed before."""
        self._waiting = True
        if self._watched:
            self.watch_client()

    def _start_timeout(self, seconds: float) -> None:
        if self._timeout is None:
            self._timeout = ScopeTimeout(self.scope)
        self._timeout.start(seconds)

    async def _watch_until_left(self) -> None:
        if self._body_within is not None:  # most bodies have arrived by now, and have needed no timer
            self._watcher = None
            self._start_timeout(self._body_within)
        elif self.request.left is not None:
            await self.request.left()
            self._left = True
            self.scope.cancel()

    async def cut(self) -> None:
        """Answer a client whose body did not arrive. Raises ClientDisconnected if it has left, ClientTooSlow otherwise."""
        # Many clients leave as soon as they have the whole answer: that is no failure.
        if self._left and self.complete:
            return
        if self._left:
            raise ClientDisconnected
        if self._body_within is None or self.status:
            raise ClientTooSlow
        # Nothing can be sent in a cancelled scope.
        with anyio.CancelScope() as self.scope:
            self._timeout = None
            text = f"The request body did not arrive within {self._body_within:g} seconds."
            await self.fail(RequestTimeout(text))
            return
        raise ClientTooSlow

    def close(self) -> None:
        """Drop the timers; nothing is sent afterwards."""
        if self._timeout is not None:
            self._timeout.close()
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None  # it references this exchange

    def note_ignored(self, parameters: Sequence[str]) -> None:
        """Name the parameters that the agent does not pass on in a header, unless the head was sent already."""
        self.about.append((IGNORED_HEADER, ", ".join(parameters)))

    def allow_detach(self) -> None:
        """Treat write failures as a disconnect, not as an error, from now on."""
        self._detachable = True

    def detach(self) -> None:
        """Note that the client has left, but the work goes on: nothing more is sent."""
        self._gone = True

    def over(self) -> None:
        """Note that work that went on without its client is over."""
        self.goes_on = False
        if self.on_over is not None:
            self.on_over(self)

    @property
    def detached(self) -> bool:
        """True once the client has left and the work goes on."""
        return self._gone

    def repeat(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> Awaitable[None]:
        """Send a recorded answer again."""
        return self._deliver(self._head(status, encode_headers(headers)), ResponseBody(body, more=False))

    def answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> Awaitable[None]:
        """Send a whole answer: JSON that must not be cached, unless `headers` say otherwise."""
        usual = whole_headers(body)
        if headers:
            others = encode_headers(headers)
            said = {name for name, _ in others}
            usual = [*[(name, value) for name, value in usual if name not in said], *others]
        return self._deliver(self._head(status, usual), ResponseBody(body, more=False))

    def has_failed(self, error: OpenAICompatError) -> None:
        """Note an error for the log, and if a running agent has caused it."""
        self.note = error.code or error.type
        self.failed = self.agent_started and error.should_retry is not True
        if not self.agent_started:
            self.refused = refusal_reason(error)

    async def fail(self, error: OpenAICompatError, closing: bytes = b"") -> None:
        """Answer with an error, or end a stream that has begun with it: no finish_reason, no end mark.

        In a stream, `closing` comes before the error, for APIs in which open blocks have to be closed first.

        Raises ClientTooSlow if neither is possible, because another answer is half sent.
        """
        self.has_failed(error)
        drop_tracebacks(error)
        if not self.status:
            body = self.errors.body(error, self.request_id)
            await self.answer(error.status, body, *self.errors.headers(error))
        elif self.streaming:
            # Without `[DONE]`: a client that only looks for the end mark would take half an answer for a whole one.
            await self.end(closing + self.errors.frame(error, self.request_id))
        else:
            raise ClientTooSlow from error

    def write(self, data: bytes) -> Awaitable[None]:
        """Send a piece of the stream, after the head if it is the first. A client that does not read in time is cut off."""
        if self.status:
            return self._deliver(ResponseBody(data))
        return self._deliver(self._stream_head(), ResponseBody(data))

    def _stream_head(self) -> ResponseStart:
        self.watch_client()  # also where no body was read, as in a GET
        self.streaming = True
        return self._head(200, self.framing.headers)

    # methods of a turn's delivery: see `Delivery`

    due = math.inf

    def started(self) -> None:
        """Note that an agent runs for this request, so that the request is not silently run again."""
        self.agent_started = True

    async def keep_alive(self) -> None:
        """Send bytes that clients ignore: a comment, in a stream of events."""
        if self.framing.keep_alive:
            await self.write(self.framing.keep_alive)

    async def flush(self) -> None:
        """Nothing: there is no log to copy."""

    @property
    def write_now(self) -> Callable[[bytes], bool] | None:
        """Sends a piece without waiting; None before a stream begins, or if the transport cannot tell when there is room."""
        return self.send_now if self._has_room is not None and self.streaming else None

    @property
    def can_send_now(self) -> bool:
        """True if sending need not wait: there is room, or no client to write to any more."""
        return self._gone or (self._has_room is not None and self._has_room())

    def send_now(self, data: bytes) -> bool:
        """Send a piece of the stream at once; False, and nothing is done, if sending would have to wait."""
        # Like `can_send_now`, without another call for each event.
        if not self._gone and (self._has_room is None or not self._has_room()):
            return False
        piece = ResponseBody(data)
        if self.recording is not None:
            self.recording.add(piece)
        if self._gone:
            return True
        try:
            self._send(piece).__await__().send(None)
        except StopIteration:
            return True
        except ClientDisconnected:
            if not self._detachable:
                raise
            self._gone = True
            return True
        # The contract of `HasRoom`; tests/adapters/test_serving_contract.py holds uvicorn to it.
        raise RuntimeError("the transport waited although it had room")

    def end(self, data: bytes = b"") -> Awaitable[None]:
        """Send the last piece of the stream, after the head if nothing was sent before."""
        head = () if self.status else (self._stream_head(),)
        self.streaming = False
        return self._deliver(*head, ResponseBody(data, more=False))

    def _head(self, status: int, headers: RawHeaders) -> ResponseStart:
        self.status = status
        if self.about:
            headers = [*encode_headers(self.about), *headers]
        if self.recording is not None:
            self.recording.headers = decode_headers(headers)
        milliseconds = (time.monotonic() - self.began) * 1000
        own = [(b"x-request-id", self.request_id.encode()), (b"openai-processing-ms", b"%d" % milliseconds)]
        if self.headers:
            own += encode_headers(self.headers)
        return ResponseStart(status, [*own, *headers])

    async def _deliver(self, *messages: ResponseStart | ResponseBody) -> None:
        for message in messages:
            piece = self._note_piece(message) if isinstance(message, ResponseBody) else message
            if self._gone:
                continue
            if self._has_room is None or not self._has_room():
                await self._deliver_in_time(piece)
                continue
            try:
                await self._send(piece)
            except ClientDisconnected:
                if not self._detachable:
                    raise
                self._gone = True

    def _note_piece(self, piece: ResponseBody) -> ResponseBody:
        """Note a piece that is about to be sent; return it as it is sent."""
        if self.recording is not None:
            self.recording.add(piece)
        if not piece.more:
            if self.failed and self.on_failed is not None:
                self.on_failed(self)  # the client may repeat the request while the agent is still being stopped
            self.complete = True  # many clients leave as soon as they have the last piece
        # HEAD has the headers of GET and no content (RFC 9110, 9.3.2).
        return piece if self.request.method != "HEAD" else ResponseBody(b"", piece.more)

    async def _deliver_in_time(self, message: ResponseStart | ResponseBody) -> None:
        """Send within the write deadline. A slow client counts as gone if the work goes on anyway; otherwise it is cut off."""
        if self._detachable:
            with anyio.move_on_after(self._write_deadline), suppress(ClientDisconnected):
                await self._send(message)
                return
            self._gone = True
            return
        self._start_timeout(self._write_deadline)
        try:
            await self._send(message)
        finally:
            if self._timeout is not None:
                self._timeout.stop()
