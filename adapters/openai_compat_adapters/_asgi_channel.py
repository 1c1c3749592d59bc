"""Adapts an ASGI WebSocket to the core's Channel."""

from __future__ import annotations

from typing import Any

from starlette.types import Message, Receive, Scope, Send

from openai_compat.http import ClientDisconnected, Frame, RawHeaders

from ._corked_transport import CorkedTransport

POLICY_VIOLATION = 1008


class AsgiChannel:
    """A Channel on one `websocket` scope, whose `websocket.connect` has been received."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._can_refuse = "websocket.http.response" in (scope.get("extensions") or {})
        self._receive = receive
        self._asgi_send = send

    async def accept(self, headers: RawHeaders, subprotocol: str | None = None) -> None:
        """Accept the handshake. Raises ClientDisconnected if the client has left."""
        await self._send({"type": "websocket.accept", "headers": list(headers), "subprotocol": subprotocol})
        _cork(self._asgi_send)

    async def refuse(self, status: int, headers: RawHeaders, body: bytes) -> None:
        """Answer with an HTTP response; ASGI servers that cannot do that answer with a bare 403."""
        if not self._can_refuse:
            await self._send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": ""})
            return
        await self._send({"type": "websocket.http.response.start", "status": status, "headers": list(headers)})
        await self._send({"type": "websocket.http.response.body", "body": body, "more_body": False})

    async def receive(self) -> Frame:
        """The next frame. Raises ClientDisconnected if none will come."""
        message = await self._receive()
        if message["type"] != "websocket.receive":
            raise ClientDisconnected
        text: str | None = message.get("text")  # servers may send both keys, one of them None
        data: Any = message.get("bytes")
        return text if text is not None else bytes(data)

    async def send(self, frame: Frame) -> None:
        """Send text or bytes. Raises ClientDisconnected if the client has left."""
        try:  # without `_send`, because nearly all messages pass here
            await self._asgi_send({"type": "websocket.send", "text" if isinstance(frame, str) else "bytes": frame})
        except (OSError, RuntimeError):
            raise ClientDisconnected from None

    async def close(self, code: int, reason: str = "") -> None:
        """Close the WebSocket. Raises ClientDisconnected if the client has left."""
        await self._send({"type": "websocket.close", "code": code, "reason": reason})

    async def _send(self, message: Message) -> None:
        try:
            await self._asgi_send(message)
        except (OSError, RuntimeError):  # from servers that have closed the connection meanwhile
            raise ClientDisconnected from None


def _cork(send: Send) -> None:
    """Join consecutive frames into one write, for which ASGI has no message."""
    # uvicorn's `send` is a method of the protocol, which has these attributes. Other servers and middleware pass something else.
    protocol: Any = getattr(send, "__self__", None)
    transport = getattr(protocol, "transport", None)
    if hasattr(protocol, "writable") and transport is not None and not isinstance(transport, CorkedTransport):
        protocol.transport = CorkedTransport(transport, protocol.loop)
