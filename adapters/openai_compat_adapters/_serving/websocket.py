"""uvicorn's WebSocket, with what it lacks: errors in the envelope, and bounds on what a client can make us keep.

By itself uvicorn resets the connection of a client whose message is too big before it can read why, keeps each piece of
a message that comes in millions of pieces, and answers pings of a client that reads nothing.
"""

from __future__ import annotations

from asyncio.transports import BaseTransport, Transport
from typing import Any, cast

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidHandshake
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request

from openai_compat.errors import InvalidRequest

from .corked_transport import CorkedTransport
from .http1 import refusal
from .slow_readers import ReadingWatch

LINGER = 5.0
"""Seconds for which a client that is told to go may still send, so that it gets to read why."""


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One connection, taken over from `Http1Protocol` with its handshake.

    `write_timeout` is the time in seconds within which a client that has something to read must read some of it.
    """

    def __init__(self, *, write_timeout: float, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._pieces = bytearray()
        self._watch = ReadingWatch(self.loop, write_timeout)

    def connection_made(self, transport: BaseTransport) -> None:
        """Take the connection over."""
        super().connection_made(cast("BaseTransport", CorkedTransport(cast("Transport", transport), self.loop)))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        super().connection_lost(exc)
        self._watch.stop()

    def data_received(self, data: bytes) -> None:
        """Take bytes; of a client that does not read, no more: what answers its pings would pile up."""
        super().data_received(data)
        if not self.handshake_initiated:
            self._refuse(431, "The head of the request is too long for a WebSocket.")
        elif not self.writable.is_set() and not self.transport.is_closing():
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        """The client does not keep up."""
        super().pause_writing()
        self._watch.start(self.transport)

    def resume_writing(self) -> None:
        """The client has everything."""
        super().resume_writing()
        self._watch.stop()
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def handle_connect(self, event: Request) -> None:
        """Hand a good handshake to the application."""
        try:
            self.conn.process_request(event)
        except InvalidHandshake:
            self.handshake_initiated = True
            self._refuse(400, "This is no WebSocket handshake: see RFC 6455, version 13.")
        else:
            super().handle_connect(event)

    def _refuse(self, status: int, text: str) -> None:
        error = InvalidRequest(text, code="invalid_handshake", headers={"Sec-WebSocket-Version": "13"})
        error.status = status
        self.handshake_complete = self.close_sent = True
        self.transport.write(refusal(error))
        self.transport.close()

    async def send(self, message: ASGISendEvent) -> None:
        """Take a message of the application's. An answer instead of a WebSocket completes the handshake too."""
        await super().send(message)
        self.handshake_complete = self.handshake_complete or self.close_sent

    def handle_cont(self, event: Frame) -> None:
        """Join the pieces as they come: a list of them could take many times their size."""
        self._pieces += event.data
        if event.fin:
            self.send_receive_event_to_app()

    def send_receive_event_to_app(self) -> None:
        """Hand a whole message to the application, and read no more until it asks for the next one."""
        message = b"".join([*self.frames, self._pieces]) if self._pieces else self.frames[0]
        self.frames, self._pieces = [], bytearray()
        if self.close_sent:
            return
        if self.curr_msg_data_type == "bytes":
            self.queue.put_nowait({"type": "websocket.receive", "bytes": message})
        else:
            try:
                self.queue.put_nowait({"type": "websocket.receive", "text": str(message, "utf-8")})
            except UnicodeDecodeError:
                self.conn.fail(CloseCode.INVALID_DATA)
                self.handle_parser_exception()
                return
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def handle_parser_exception(self) -> None:
        """Tell the client what was wrong, then drop what it sends until it leaves: not for long."""
        if self.close_sent or self.conn.close_sent is None:
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": self.conn.close_sent.code})
        self.stop_keepalive()
        self.close_sent = True
        self.transport.write(b"".join(self.conn.data_to_send()))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(LINGER, self.transport.close)

    def shutdown(self) -> None:
        """Say goodbye, unless that was said."""
        if not self.transport.is_closing():
            super().shutdown()
