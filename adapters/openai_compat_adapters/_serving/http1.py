"""uvicorn's HTTP/1.1 with deadlines on a connection, which ASGI cannot express, and stricter parsing.

On its own, uvicorn waits forever for a request's head and for a client that reads nothing, stores a head of any length,
answers invalid HTTP in plain text and HTTP/1.0 in chunks, adds trailers to the headers, drops the body of a request that
offers another protocol, and accepts requests whose end a proxy may see elsewhere (request smuggling).

The parser, llhttp, would read all requests that arrive together, without reporting where one ends. So it gets bytes only
up to a possible end of a message, and no more until that request is answered.
"""

from __future__ import annotations

import asyncio
import re
from enum import Enum
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from openai_compat.errors import InvalidRequest, OpenAICompatError, RequestTimeout, Unavailable
from openai_compat.wire.errors import error_body

from .slow_readers import ReadingWatch

HEAD_BYTES = 64 * 1024
"""Maximum size of a request's head; a longer one gets 431. Also limits the bytes of a chunked body without content."""

END = b"\r\n\r\n"
"""The end of a head, and of a chunked body."""
REQUEST_LINE = re.compile(rb"[A-Z-]+ [!-~]+ HTTP/1\.[01]\r\n")
"""The only form that is served. llhttp also accepts other protocols and versions, several spaces, and leading empty lines."""
ABSOLUTE_TARGET = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE)
"""A target in absolute form, as sent to proxies. Servers must accept that form too (RFC 9112, 3.2.2)."""
UPGRADE = re.compile(rb"\r\nupgrade:[^\r]*", re.IGNORECASE)
SINGLE_HEADERS = (b"host", b"content-length", b"transfer-encoding")


class Part(Enum):
    """The part of a request that the next bytes of a connection belong to."""

    HEAD = 1
    SIZED_BODY = 2
    CHUNKED_BODY = 3


HEAD, SIZED_BODY, CHUNKED_BODY = Part


class Http1Protocol(HttpToolsProtocol):
    """One connection.

    Args:
        header_timeout: seconds for a request's head to arrive; for the first one, since the connection was made.
        write_timeout: seconds within which a client that has something to read has to read some of it.
    """

    app: Any

    def __init__(self, *, header_timeout: float, write_timeout: float, **uvicorn_options: Any) -> None:
        super().__init__(**uvicorn_options)
        self._header_timeout = header_timeout
        self._head_timer: asyncio.TimerHandle | None = None
        self._watch = ReadingWatch(self.loop, write_timeout)
        self._unread, self._position = b"", 0  # the received bytes, and how many of them the parser has
        self._part = HEAD
        self._head = b""  # the part of the head that the parser has
        self._upgrading = False  # the request offers another protocol
        self._body_left = 0  # missing bytes of a sized body
        self._framing = 0  # bytes of a chunked body since its last content

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP alone
        """Start the deadline for the first request's head."""
        super().connection_made(transport)
        # Pause writing at the first byte that the kernel does not accept, so that a slow reader is noticed at once.
        transport.set_write_buffer_limits(0)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the deadlines: the client is gone."""
        super().connection_lost(exc)
        self._stop_deadlines()

    def _stop_deadlines(self) -> None:
        self._head_timer = _cancel_timer(self._head_timer)
        self._watch.stop()

    # input

    def data_received(self, data: bytes) -> None:
        """Process bytes. The deadline for a head runs until the head is complete."""
        self._unset_keepalive_if_required()
        self._unread += data
        while self._position < len(self._unread) and not self.transport.is_closing():
            if self._part is not HEAD:
                piece = self._next_body_piece()
            elif self._is_answering:
                # The next request waits. Reading continues for a while, to notice when the client disconnects.
                if len(self._unread) > HEAD_BYTES:
                    self.flow.pause_reading()
                break
            else:
                piece = self._next_head_piece()
            if not piece:
                break
            self._parse(piece)
        self._unread, self._position = self._unread[self._position :], 0
        if self._is_answering:
            self._head_timer = _cancel_timer(self._head_timer)
        elif self._head_timer is None and self.transport.get_protocol() is self:  # the WebSocket's, perhaps
            self._expect_head()

    def _next_head_piece(self) -> bytes:
        piece = self._take_to_end()
        self._head += piece
        if len(self._head) > HEAD_BYTES:
            self._refuse(_invalid_request(431, f"The head of the request is longer than {HEAD_BYTES} bytes."))
            return b""
        if piece.endswith(END) and not REQUEST_LINE.match(self._head):
            self._refuse(_invalid_request(400, "The request does not begin with a method, a target and HTTP/1.1."))
            return b""
        return piece

    def _next_body_piece(self) -> bytes:
        if self._part is SIZED_BODY:
            piece = self._take_to(self._position + self._body_left)
            self._body_left -= len(piece)
            return piece
        if self._framing > HEAD_BYTES:  # endless extensions or trailers
            self._refuse(
                _invalid_request(431, f"More than {HEAD_BYTES} bytes of the chunked body have none of its content.")
            )
            return b""
        piece = self._take_to_end()
        self._framing += len(piece)  # `on_body` resets it if there is content in these
        return piece

    def _take_to_end(self) -> bytes:
        end = self._unread.find(END, self._position)
        if end == -1:  # the last bytes may be the beginning of an END
            return self._take_to(max(self._position, len(self._unread) - len(END) + 1))
        return self._take_to(end + len(END))

    def _take_to(self, end: int) -> bytes:
        piece = self._unread[self._position : end]
        self._position += len(piece)
        return piece

    def _parse(self, piece: bytes) -> None:
        try:
            self.parser.feed_data(piece)
        except HttpParserUpgrade:
            self._upgrade()
        except HttpParserCallbackError as failed:
            if not isinstance(failed.__context__, OpenAICompatError):
                raise
            self._refuse(failed.__context__)
        except HttpParserError as error:
            self._refuse(_invalid_request(400, f"This is no valid HTTP: {error}."))

    def _upgrade(self) -> None:
        self._upgrading = False
        if self._should_upgrade():
            self.handle_websocket_upgrade()
        else:  # no other protocol is supported: parse again without the offer, so that the body is read too
            self._unread, self._position = UPGRADE.sub(b"", self._head) + self._unread[self._position :], 0
            self._head = b""
            self.parser = HttpRequestParser(self)  # the old parser has stopped if the request asked to close

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to the WebSocket protocol, which has deadlines of its own."""
        self._stop_deadlines()
        self._position = len(self._unread)
        super().handle_websocket_upgrade()

    # callbacks of the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header. Trailers are dropped: the request was already accepted without them."""
        if self._part is HEAD:
            self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Start the application, if it is clear where the request ends."""
        if not self._head.endswith(END):  # the parser saw the end elsewhere
            raise _invalid_request(400, "The request ends where none may end.")
        method = self.scope["method"] = self.parser.get_method().decode("ascii")
        version = self.scope["http_version"] = self.parser.get_http_version()
        fields = self._check_headers(version)
        if method == "CONNECT":
            raise _invalid_request(501, "This is no proxy.")
        self._upgrading = self.parser.should_upgrade()
        if self._upgrading:
            return
        raw_path, _, query = self._target(fields).partition(b"?")
        self._expect_body(fields, version)
        self._head = b""
        path = raw_path.decode("ascii")
        self.scope["path"] = unquote(path) if "%" in path else path
        self.scope["raw_path"] = raw_path
        self.scope["query_string"] = query
        expects = version != "1.0" and fields.get(b"expect", b"").lower() == b"100-continue"
        cycle = CloseDelimitedCycle if version == "1.0" else ExpectedCycle if expects else RequestResponseCycle
        self.cycle = cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=expects,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        self._start_asgi_task(self.cycle, self.app)

    def _check_headers(self, version: str) -> dict[bytes, bytes]:
        fields = dict(self.headers)
        if b"host" not in fields and version != "1.0":
            raise _invalid_request(400, "The request has no Host.")
        if len(fields) < len(self.headers):
            names = [name for name, _ in self.headers]
            for name in SINGLE_HEADERS:
                if names.count(name) > 1:
                    raise _invalid_request(400, f"The request has more than one {name.decode().title()}.")
        return fields

    def _expect_body(self, fields: dict[bytes, bytes], version: str) -> None:
        coding = fields.get(b"transfer-encoding")
        if coding is None:
            self._part, self._body_left = SIZED_BODY, int(fields.get(b"content-length", 0))
        elif version == "1.0":
            raise _invalid_request(400, "HTTP/1.0 has no Transfer-Encoding.")
        elif coding.lower() != b"chunked":
            raise _invalid_request(501, "The one Transfer-Encoding that is understood here is chunked.")
        else:
            self._part, self._framing = CHUNKED_BODY, 0

    def _target(self, fields: dict[bytes, bytes]) -> bytes:
        if self.url[:1] in b"/*":
            return self.url
        absolute = ABSOLUTE_TARGET.fullmatch(self.url)
        if absolute is None or absolute[1].lower() != fields.get(b"host", b"").lower():
            raise _invalid_request(400, "The target of the request is not of its Host.")
        return absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]

    def on_body(self, body: bytes) -> None:
        """Store a piece of the body."""
        self._framing = 0
        self.cycle.waiting_for_100_continue = False
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the next bytes begin a request."""
        self._part = HEAD
        if not self._upgrading:
            super().on_message_complete()

    # output

    @property
    def _is_answering(self) -> bool:
        cycle: Any = self.cycle  # None before the first request, whatever uvicorn's annotation says
        return cycle is not None and not cycle.response_complete

    def on_response_complete(self) -> None:
        """Continue with the next request, if its bytes have arrived."""
        super().on_response_complete()
        if self._unread and not self.transport.is_closing():
            self.data_received(b"")

    def _expect_head(self) -> None:
        late = RequestTimeout(f"The request's head did not arrive within {self._header_timeout:g} seconds.")
        self._head_timer = self.loop.call_later(self._header_timeout, self._refuse, late)

    def shutdown(self) -> None:
        """Close when the running response has ended. A request whose body is still arriving is refused."""
        # Its agent has not started, so the client can safely retry elsewhere.
        if self._is_answering and self.cycle.more_body and not self.cycle.response_started:
            self._refuse(Unavailable("The server is shutting down.", code="shutting_down"))
        else:
            super().shutdown()

    def _refuse(self, error: OpenAICompatError) -> None:
        """Respond with `error` if no response has begun, and close."""
        if type(error) is InvalidRequest:  # timeouts are not: browsers connect in advance
            self.logger.warning("refused with %d: %s", error.status, error.message)
        unanswered = not self.cycle.response_started if self._is_answering else self._part is HEAD
        if unanswered and not self.transport.is_closing():
            self.transport.write(refusal(error))
        self.transport.close()

    def pause_writing(self) -> None:
        """Watch a client that does not keep up."""
        super().pause_writing()
        self._watch.start(self.transport)

    def resume_writing(self) -> None:
        """Stop watching: the client has read everything."""
        super().resume_writing()
        self._watch.stop()


class CloseDelimitedCycle(RequestResponseCycle):
    """A request of HTTP/1.0, which has no chunks, and its response, which ends with the connection."""

    def __init__(self, **uvicorn_options: Any) -> None:
        super().__init__(**uvicorn_options)
        self.chunked_encoding = False

    async def send(self, message: ASGISendEvent) -> None:
        """Send the application's message. Sets the expected length each time, because uvicorn would count the bytes."""
        if message["type"] == "http.response.body":
            self.expected_content_length = len(message["body"])
        await super().send(message)


class ExpectedCycle(RequestResponseCycle):
    """A request whose client sends the body only after `100 Continue`, and its response."""

    async def send(self, message: ASGISendEvent) -> None:
        """Send the application's message. If the body was not requested, it may come or not, so the connection is closed."""
        self.keep_alive = self.keep_alive and not self.waiting_for_100_continue
        await super().send(message)


def refusal(error: OpenAICompatError) -> bytes:
    """The bytes of an error response with `Connection: close`."""
    body = error_body(error)
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}", "connection: close"]
    lines += ["content-type: application/json", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in error.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _invalid_request(status: int, text: str) -> InvalidRequest:
    error = InvalidRequest(text)
    error.status = status
    return error


def _cancel_timer(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    if timer is not None:
        timer.cancel()
    return None
