"""A WebSocket client that can break every rule: frames made and read by hand."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from tests.adapters.served import Answer, Connection, Served, answers

TEXT, BINARY, CLOSE, PING, PONG, MORE = 1, 2, 8, 9, 10, 0
KEY = base64.b64encode(b"sixteen bytes...").decode()


def handshake(*headers: str, path: str = "/v1/responses", host: str = "localhost", **fields: str | None) -> bytes:
    """The bytes of an opening handshake; `fields` replace some of its own headers, or leave them out."""
    own: dict[str, str | None] = {"connection": "Upgrade", "upgrade": "websocket", "key": KEY, "version": "13"}
    own |= fields
    names = {"key": "Sec-WebSocket-Key", "version": "Sec-WebSocket-Version"}
    lines = [f"{names.get(name, name)}: {value}" for name, value in own.items() if value is not None]
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *lines, *headers, "", ""]).encode()


def frame(
    payload: bytes, opcode: int = TEXT, *, fin: bool = True, rsv: int = 0, mask: bool = True, length: int | None = None
) -> bytes:
    """A client's frame; `length` claims a different length."""
    size = len(payload) if length is None else length
    bit = 0x80 if mask else 0
    if size < 126:
        head = bytes([bit | size])
    elif size < 65536:
        head = bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head = bytes([bit | 127]) + struct.pack("!Q", size)
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode]) + head
    if not mask:
        return head + payload
    key = os.urandom(4)
    pad = (key * (len(payload) // 4 + 1))[: len(payload)]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
    return head + key + masked.to_bytes(len(payload), "big")


@dataclass(frozen=True)
class Received:
    """A server's frame."""

    opcode: int
    payload: bytes

    @property
    def json(self) -> dict[str, Any]:
        assert self.opcode == TEXT, self
        return json.loads(self.payload)

    @property
    def code(self) -> int:
        """The code of a close frame."""
        assert self.opcode == CLOSE, self
        return struct.unpack("!H", self.payload[:2])[0]


class RawSocket:
    """An open WebSocket to a server; every wait is bounded."""

    def __init__(self, served: Served, *headers: str) -> None:
        self.connection: Connection = served.connect()
        self.connection.send(handshake(*headers))
        head = self.connection.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.connection.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes; an already closed server is no failure, since only its last frame counts."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.socket.sendall(data)

    def say(self, **event: Any) -> None:
        """Send an event."""
        self.send(frame(json.dumps(event).encode()))

    def create(self, model: str, text: str = "hi", **fields: Any) -> None:
        """Request a response."""
        self.say(type="response.create", model=model, input=text, **fields)

    def receive(self) -> Received:
        """The next frame."""
        first, second = self._read(2)
        size = second & 127
        if size > 125:
            size = int.from_bytes(self._read(2 if size == 126 else 8), "big")
        return Received(first & 15, self._read(size))

    def _read(self, size: int) -> bytes:
        data = self.connection._unread
        while len(data) < size:
            piece = self.connection.socket.recv(65536)
            assert piece, "closed without a close frame"
            data += piece
        self.connection._unread = data[size:]
        return data[:size]

    def until(self, *types: str) -> list[dict[str, Any]]:
        """The events up to and including the first of one of these types."""
        events = [self.receive().json]
        while events[-1]["type"] not in types:
            events.append(self.receive().json)
        return events

    def close_code(self) -> int:
        """The code of the next close frame; other frames before it are skipped. The connection ends after it."""
        while (received := self.receive()).opcode != CLOSE:
            pass
        assert self.connection.rest() == b""
        return received.code

    def reset(self) -> None:
        """Disconnect without a close frame."""
        self.connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.socket.close()


def refused(served: Served, data: bytes) -> Answer:
    """The response to a refused handshake; the server closes the connection after it."""
    with served.connect() as connection:
        connection.send(data)
        (answer,) = answers(connection.rest())
    return answer
