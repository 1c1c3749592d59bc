"""HTTP exchanges and WebSockets without a transport; adapters translate between these types and their transport."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

__all__ = (
    "Channel",
    "ClientDisconnected",
    "ClientTooSlow",
    "Frame",
    "HasRoom",
    "HttpRequest",
    "RawHeaders",
    "ResponseBody",
    "ResponseStart",
    "Send",
    "decode_headers",
    "encode_headers",
)

RawHeaders: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Header fields in order, with names in lower case."""


class ClientDisconnected(Exception):
    """The client disconnected during a read or write. Raised by adapters; there is no one left to answer."""


class ClientTooSlow(Exception):
    """A piece of the answer was not sent within its deadline; the connection must be closed."""


@dataclass(frozen=True, init=False)
class HttpRequest:
    """An HTTP request, independent of the transport.

    Attributes:
        method: in upper case.
        path: decoded, relative to the mount point (`/v1/models`).
        root: the mount point, decoded; "" if there is none.
        query: the query string, not decoded, without "?".
        headers: names in lower case.
        body: yields the pieces of the body, only when the core reads them.
        lasting: True if work may continue after the response, because the event loop keeps running.
        left: returns once the client has disconnected; called after the body was read, or if the body is not needed. None
            for transports that cancel `Server.handle` instead.
        scope: the unchanged ASGI scope or WSGI environ of the request; empty if there is neither.
        first: the first value of each header.
    """

    method: str
    path: str
    query: str
    headers: RawHeaders
    body: AsyncIterator[bytes]
    lasting: bool = True
    root: str = ""
    left: Callable[[], Awaitable[None]] | None = None
    scope: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False, compare=False)
    first: Mapping[bytes, bytes] = field(init=False, repr=False, compare=False)

    def __init__(  # noqa: PLR0917  (the fields, in their order)
        self,
        method: str,
        path: str,
        query: str,
        headers: RawHeaders,
        body: AsyncIterator[bytes],
        lasting: bool = True,
        root: str = "",
        left: Callable[[], Awaitable[None]] | None = None,
        scope: Mapping[str, Any] | None = None,
    ) -> None:
        vars(self).update(  # one update takes a third of the time of a frozen dataclass's __init__
            method=method,
            path=path,
            query=query,
            headers=headers,
            body=body,
            lasting=lasting,
            root=root,
            left=left,
            scope={} if scope is None else scope,
            # Ten headers are looked up per request. Reversed, so that the first value of a header wins.
            first=dict(reversed(headers)),
        )

    def header(self, name: bytes) -> str | None:
        """Return the first value of a header (name in lower case), decoded as Latin-1, or None."""
        value = self.first.get(name)
        # Every byte is a Latin-1 character, so no client input can fail here.
        return None if value is None else value.decode("latin-1")

    def header_values(self, name: bytes) -> list[str]:
        """Return all values of a header, in order."""
        first = self.first.get(name)
        if first is None:
            return []
        if len(self.first) == len(self.headers):  # no header is repeated
            return [first.decode("latin-1")]
        return [value.decode("latin-1") for key, value in self.headers if key == name]


@dataclass(slots=True)  # frozen takes three times as long to create
class ResponseStart:
    """Status and headers of a response; its body follows."""

    status: int
    headers: RawHeaders


@dataclass(slots=True)
class ResponseBody:
    """A piece of the response body. `more=False` ends the response."""

    data: bytes
    more: bool = True


Send: TypeAlias = Callable[[ResponseStart | ResponseBody], Awaitable[None]]
"""Accepts one `ResponseStart`, then `ResponseBody` pieces; returns when the transport can accept the next.

Raises ClientDisconnected if the transport knows that the client has disconnected."""


HasRoom: TypeAlias = Callable[[], bool]
"""Returns True if the transport would accept the next message at once, so that `Send` will not wait."""


Frame: TypeAlias = str | bytes
"""One whole WebSocket message: text or bytes."""


class Channel(Protocol):
    """A WebSocket: both sides send frames until one side closes it.

    It starts as a request that is accepted or refused, once. Any method may raise ClientDisconnected.
    """

    async def accept(self, headers: RawHeaders, subprotocol: str | None = None) -> None:
        """Accept the handshake, with further response headers and one of the subprotocols that the client offers."""
        ...

    async def refuse(self, status: int, headers: RawHeaders, body: bytes) -> None:
        """Refuse the handshake with an ordinary HTTP response."""
        ...

    async def receive(self) -> Frame:
        """Return the next frame. Raises ClientDisconnected once the client has closed the channel or disconnected.

        A task must wait for frames at all times: some transports notice only then that the client has disconnected.
        """
        ...

    async def send(self, frame: Frame) -> None:
        """Send a frame; return when the transport can accept the next."""
        ...

    async def close(self, code: int, reason: str = "") -> None:
        """Close the WebSocket, with an RFC 6455 code and a reason of at most 123 bytes. Nothing is sent afterwards."""
        ...


_LINE_ENDS = str.maketrans("\r\n\0", "   ")


def encode_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Encode header fields, with names in lower case and any character that could end a header line replaced."""
    # Most values are printable ASCII and need no replacement.
    safe = [(name, value if value.isprintable() else value.translate(_LINE_ENDS)) for name, value in headers]
    return [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in safe]


def decode_headers(headers: RawHeaders) -> list[tuple[str, str]]:
    """Decode header fields: the inverse of `encode_headers`."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
