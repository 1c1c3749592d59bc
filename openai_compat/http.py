"""An HTTP exchange without a transport: adapters turn theirs into this, and this back into theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

__all__ = (
    "ClientDisconnected",
    "HttpRequest",
    "RawHeaders",
    "ResponseBody",
    "ResponseStart",
    "Send",
    "encode_headers",
)

RawHeaders: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Header fields in order; names in lower case."""


class ClientDisconnected(Exception):
    """The client went away while it was read from or written to. Adapters raise it; nobody is left to be answered."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as the core sees it.

    Attributes:
        method: in upper case.
        path: decoded, below the mount point (`/v1/models`).
        query: the query string, undecoded, without "?".
        headers: names in lower case.
        body: yields the body's pieces when, and only when, the core wants them.
    """

    method: str
    path: str
    query: str
    headers: RawHeaders
    body: AsyncIterator[bytes]

    def header(self, name: bytes) -> str | None:
        """The first value of a header (name in lower case), decoded as Latin-1, or None."""
        for key, value in self.headers:
            if key == name:
                return value.decode("latin-1")
        return None

    def header_values(self, name: bytes) -> list[str]:
        """Every value of a header, in order."""
        return [value.decode("latin-1") for key, value in self.headers if key == name]


@dataclass(frozen=True, slots=True)
class ResponseStart:
    """Status and headers; bodies follow."""

    status: int
    headers: RawHeaders


@dataclass(frozen=True, slots=True)
class ResponseBody:
    """A piece of the body. `more` False ends the answer."""

    data: bytes
    more: bool = True


Send: TypeAlias = Callable[[ResponseStart | ResponseBody], Awaitable[None]]
"""Takes one `ResponseStart`, then `ResponseBody` pieces; returns when the transport has room for the next.

Raises ClientDisconnected when the transport knows that the client has gone away."""


def encode_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Header fields as bytes, names in lower case, with anything that could end a header line taken out."""
    return [(name.lower().encode("latin-1"), _one_line(value).encode("latin-1", "replace")) for name, value in headers]


def _one_line(value: str) -> str:
    if value.isprintable():
        return value
    return "".join([" " if character in "\r\n\0" else character for character in value])
