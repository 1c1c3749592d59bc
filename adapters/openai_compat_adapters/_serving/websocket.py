"""uvicorn's WebSocket with errors in OpenAI's envelope, and bounds on the memory that a client can use.

On its own, uvicorn resets a connection after a message that is too big, before the client can read why; keeps each piece
of a message that comes in millions of fragments; and answers the pings of a client that reads nothing.
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

from .._corked_transport import CorkedTransport
from .http1 import refusal
from .slow_readers import ReadingWatch

LINGER = 5.0
"""Seconds for which a client may go on sending after an error, so that it can read the close frame."""


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One connection, taken over from `Http1Protocol` with its handshake.

    A client with unread bytes must read some of them within `write_timeout` seconds.
    """

    def __init__(self, *, write_timeout: float, **uvicorn_options: Any) -> None:
        super().__init__(**uvicorn_options)
        self._pieces = bytearray()
        self._watch = ReadingWatch(self.loop, write_timeout)

    def connection_made(self, transport: BaseTransport) -> None:
        """Take the connection over, and join small writes to it."""
        super().connection_made(cast("BaseTransport", CorkedTransport(cast("Transport", transport), self.loop)))

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the deadline: the client is gone."""
        super().connection_lost(exc)
        self._watch.stop()

    def data_received(self, data: bytes) -> None:
        """Process bytes. Stop reading from a client that does not read: the pongs to its pings would pile up."""
        super().data_received(data)
        if not self.handshake_initiated:  # uvicorn passes the whole head at once, so it should be complete
            self._refuse(431, "The head of the request is too long for a WebSocket.")
        elif not self.writable.is_set() and not self.transport.is_closing():
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        """Watch a client that does not keep up."""
        super().pause_writing()
        self._watch.start(self.transport)

    def resume_writing(self) -> None:
        """Stop watching, and read on: the client has read everything."""
        super().resume_writing()
        self._watch.stop()
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def handle_connect(self, event: Request) -> None:
        """Pass a valid handshake to the application, and refuse others in OpenAI's envelope."""
        try:
            self.conn.process_request(event)
        except InvalidHandshake:
            self.handshake_initiated = True
            self._refuse(400, "This is no WebSocket handshake: see RFC 6455, version 13.")
        else:
            super().handle_connect(event)

    def _refuse(self, status: int, text: str) -> None:
        # RFC 6455, 4.4: a refusal says which version is understood here.
        error = InvalidRequest(text, code="invalid_handshake", headers={"Sec-WebSocket-Version": "13"})
        error.status = status
        self.handshake_complete = self.close_sent = True  # so that uvicorn sends no answer of its own
        self.transport.write(refusal(error))
        self.transport.close()

    async def send(self, message: ASGISendEvent) -> None:
        """Send the application's message. An HTTP response instead of a WebSocket also completes the handshake."""
        await super().send(message)
        self.handshake_complete = self.handshake_complete or self.close_sent

    def handle_cont(self, event: Frame) -> None:
        """Join fragments as they arrive: a list of tiny ones takes many times their size."""
        self._pieces += event.data
        if event.fin:
            self.send_receive_event_to_app()

    def send_receive_event_to_app(self) -> None:
        """Pass a whole message to the application, and stop reading until it requests the next one."""
        message = b"".join([*self.frames, self._pieces]) if self._pieces else self.frames[0]
        self.frames, self._pieces = [], bytearray()
        if self.close_sent:  # the application receives no more
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
        """Send the close frame, then drop what the client sends, for LINGER seconds."""
        if self.close_sent or self.conn.close_sent is None:  # called again for each further piece
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": self.conn.close_sent.code})
        self.stop_keepalive()
        self.close_sent = True
        self.transport.write(b"".join(self.conn.data_to_send()))
        # Closing now would reset the connection, with bytes unread, and the client would lose the close frame.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(LINGER, self.transport.close)

    def shutdown(self) -> None:
        """Close, unless already closed."""
        if not self.transport.is_closing():
            super().shutdown()
