"""HTTP exchanges and WebSockets without a transport: adapters turn theirs into this, and this back into theirs."""

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
"""Header fields in order; names in lower case."""


class ClientDisconnected(Exception):
    """The client went away while it was read from or written to. Adapters raise it; nobody is left to be answered."""


class ClientTooSlow(Exception):
    """A piece of the answer could not be sent within its deadline; the connection is to be cut."""


@dataclass(frozen=True, init=False)
class HttpRequest:
    """A request as the core sees it.

    Attributes:
        method: in upper case.
        path: decoded, below the mount point (`/v1/models`).
        root: the mount point, decoded; "" where there is none.
        query: the query string, undecoded, without "?".
        headers: names in lower case.
        body: yields the body's pieces when, and only when, the core wants them.
        lasting: whether work may go on once the request is answered: there is an event loop for it.
        left: returns once the client has left; called when the body was read, or is not wanted. None for transports
            that cancel `Server.handle` instead.
        scope: the ASGI scope or the WSGI environ that it came with, as it is; empty where there is neither.
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
        vars(self).update(  # all at once: a third of the time of the __init__ that a frozen dataclass is given
            method=method,
            path=path,
            query=query,
            headers=headers,
            body=body,
            lasting=lasting,
            root=root,
            left=left,
            scope={} if scope is None else scope,
            # Each request is asked for ten of them. The later ones are overwritten by the first.
            first=dict(reversed(headers)),
        )

    def header(self, name: bytes) -> str | None:
        """The first value of a header (name in lower case), decoded as Latin-1, or None."""
        value = self.first.get(name)
        # Every byte is a character of Latin-1: nothing that a stranger sends can fail here.
        return None if value is None else value.decode("latin-1")

    def header_values(self, name: bytes) -> list[str]:
        """Every value of a header, in order."""
        first = self.first.get(name)
        if first is None:
            return []
        if len(self.first) == len(self.headers):  # none of them twice
            return [first.decode("latin-1")]
        return [value.decode("latin-1") for key, value in self.headers if key == name]


@dataclass(slots=True)  # not frozen, which takes three times as long to make
class ResponseStart:
    """Status and headers; bodies follow."""

    status: int
    headers: RawHeaders


@dataclass(slots=True)
class ResponseBody:
    """A piece of the body. `more` False ends the answer."""

    data: bytes
    more: bool = True


Send: TypeAlias = Callable[[ResponseStart | ResponseBody], Awaitable[None]]
"""Takes one `ResponseStart`, then `ResponseBody` pieces; returns when the transport has room for the next.

Raises ClientDisconnected when the transport knows that the client has gone away."""


HasRoom: TypeAlias = Callable[[], bool]
"""True if the transport would take the next message at once: `Send` will not wait."""


Frame: TypeAlias = str | bytes
"""One message on a WebSocket, whole: text or bytes."""


class Channel(Protocol):
    """A WebSocket: both sides send frames until one of them closes it.

    It begins as a request that is either accepted or refused, once. Any method may raise ClientDisconnected.
    """

    async def accept(self, headers: RawHeaders, subprotocol: str | None = None) -> None:
        """Begin, with further headers for the answer and one of the subprotocols that the client offers."""
        ...

    async def refuse(self, status: int, headers: RawHeaders, body: bytes) -> None:
        """Answer with an ordinary HTTP response instead."""
        ...

    async def receive(self) -> Frame:
        """The next frame. Raises ClientDisconnected once the client has closed the channel or is gone.

        Somebody has to wait for frames at all times: a transport may notice only then that the client has left.
        """
        ...

    async def send(self, frame: Frame) -> None:
        """Send a frame; returns when the transport has room for the next."""
        ...

    async def close(self, code: int, reason: str = "") -> None:
        """Close it, with a code of RFC 6455 and a reason of at most 123 bytes. Nothing is sent afterwards."""
        ...


_LINE_ENDS = str.maketrans("\r\n\0", "   ")


def encode_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Header fields as bytes, names in lower case, with anything that could end a header line taken out."""
    # Most values are printable ASCII, and need no second look.
    safe = [(name, value if value.isprintable() else value.translate(_LINE_ENDS)) for name, value in headers]
    return [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in safe]


def decode_headers(headers: RawHeaders) -> list[tuple[str, str]]:
    """Header fields as text: what `encode_headers` takes."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
