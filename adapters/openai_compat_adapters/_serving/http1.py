"""uvicorn's HTTP/1.1 with deadlines on a connection, which ASGI cannot express, and stricter parsing.

By itself uvicorn waits forever for a request's head and for a client that reads nothing, answers invalid HTTP in plain
text, and keeps connections open on which a proxy may see the next request begin elsewhere (request smuggling).
"""

from __future__ import annotations

import asyncio
import sys
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import H11Protocol

from openai_compat.errors import InvalidRequest, OpenAICompatError, RequestTimeout, Unavailable
from openai_compat.wire.errors import error_body

from .slow_readers import ReadingWatch

TWO_LENGTHS = {b"content-length", b"transfer-encoding"}
"""A connection with both is closed after the answer (RFC 9112, 6.1)."""


class Http1Protocol(H11Protocol):
    """One connection.

    Args:
        header_timeout: seconds for a request's head to arrive; for the first one, since the connection was made.
        write_timeout: seconds within which a client that has something to read has to read some of it.
    """

    def __init__(self, *, header_timeout: float, write_timeout: float, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._header_timeout = header_timeout
        self._head_timer: asyncio.TimerHandle | None = None
        self._watch = ReadingWatch(self.loop, write_timeout)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP alone
        """Start the deadline for the first request's head."""
        super().connection_made(transport)
        # Pause writing at the first byte that the kernel does not take, so that a slow reader is seen at once.
        transport.set_write_buffer_limits(0)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the deadlines: there is nobody left to wait for."""
        super().connection_lost(exc)
        self._forget_deadlines()

    def _forget_deadlines(self) -> None:
        self._head_timer = _stopped(self._head_timer)
        self._watch.stop()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over to the WebSocket protocol, which has deadlines of its own."""
        self._forget_deadlines()
        super().handle_websocket_upgrade(event)

    def data_received(self, data: bytes) -> None:
        """Process bytes. Those between two requests start the deadline of the next head."""
        super().data_received(data)
        handed_over = self.transport.get_protocol() is not self  # to the WebSocket, while it processed these bytes
        if not handed_over and not self._answering and self._head_timer is None:
            self._expect_head()

    def handle_events(self) -> None:
        """Process the parsed events. A request that is being answered has its head, so its deadline stops."""
        super().handle_events()
        if self._answering:
            self._head_timer = _stopped(self._head_timer)
            # uvicorn answers `Connection: close` with the same, and closes.
            if {name for name, _ in self.headers} >= TWO_LENGTHS and CLOSE_HEADER not in self.headers:
                self.headers.append(CLOSE_HEADER)

    @property
    def _answering(self) -> bool:
        cycle: Any = self.cycle  # None before the first request, whatever uvicorn's annotation says
        return cycle is not None and not cycle.response_complete

    def _expect_head(self) -> None:
        late = RequestTimeout(f"The request's head did not arrive within {self._header_timeout:g} seconds.")
        self._head_timer = self.loop.call_later(self._header_timeout, self._refuse, late)

    def send_400_response(self, msg: str) -> None:
        """Refuse invalid HTTP with the status that h11 suggests (431 if the head is too long)."""
        error = InvalidRequest(msg)  # uvicorn's own answer is plain text
        error.status = getattr(sys.exception(), "error_status_hint", error.status)
        self._refuse(error)

    def shutdown(self) -> None:
        """Close when the running answer has ended. A request whose body is still arriving is refused."""
        # Its agent has not started, so the client can safely retry elsewhere.
        if self._answering and self.cycle.more_body and not self.cycle.response_started:
            self._refuse(Unavailable("The server is shutting down.", code="shutting_down"))
        else:
            super().shutdown()

    def _refuse(self, error: OpenAICompatError) -> None:
        """Answer with `error` if no answer has begun, and close."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not self.transport.is_closing():
            self.transport.write(refusal(error))  # not through h11, whose state may forbid it
        self.transport.close()

    def pause_writing(self) -> None:
        """Watch a client that does not keep up."""
        super().pause_writing()
        self._watch.start(self.transport)

    def resume_writing(self) -> None:
        """Stop watching: the client has read everything."""
        super().resume_writing()
        self._watch.stop()


def refusal(error: OpenAICompatError) -> bytes:
    """The bytes of an error response with `Connection: close`."""
    body = error_body(error)
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}", "connection: close"]
    lines += ["content-type: application/json", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in error.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _stopped(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    if timer is not None:
        timer.cancel()
    return None
