"""The format of an API's answers: how it reports errors and frames streams; the headers and the copy of a whole answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from ..errors import OpenAICompatError
from ..http import RawHeaders, ResponseBody, encode_headers
from ..wire.errors import error_body, error_frame, error_headers
from ..wire.json import KEEP_ALIVE


class ErrorForm(Protocol):
    """How an API reports errors. The status comes from the error."""

    def body(self, error: OpenAICompatError, request_id: str) -> bytes:
        """The JSON body of an error answer. `request_id` is the answer's, for formats that repeat it in the body."""
        ...

    def headers(self, error: OpenAICompatError) -> list[tuple[str, str]]:
        """The headers of an error answer, besides those of every answer."""
        ...

    def frame(self, error: OpenAICompatError, request_id: str) -> bytes:
        """The last frame of a stream that fails after it has begun."""
        ...


class OpenAIErrors:
    """The error format that OpenAI's SDKs read."""

    def body(self, error: OpenAICompatError, request_id: str) -> bytes:
        """`{"error": {"message", "type", "param", "code"}}`. The request id is in a header."""
        return error_body(error)

    def headers(self, error: OpenAICompatError) -> list[tuple[str, str]]:
        """Retry hints, and the error's own headers."""
        return error_headers(error)

    def frame(self, error: OpenAICompatError, request_id: str) -> bytes:
        """The error envelope as an event, without an end mark."""
        return error_frame(error)


@dataclass(frozen=True, slots=True)
class Framing:
    """How an API frames its streams.

    Attributes:
        content_type: the `Content-Type` of the answer.
        keep_alive: the bytes that fill a silence; empty where clients would read any byte as part of the answer.
        headers: the headers of the answer.
    """

    content_type: str
    keep_alive: bytes = b""
    headers: RawHeaders = field(init=False)

    def __post_init__(self) -> None:
        headers = [
            ("Content-Type", self.content_type),
            ("Cache-Control", "no-cache, no-store"),
            # nginx would buffer the stream otherwise.
            ("X-Accel-Buffering", "no"),
        ]
        object.__setattr__(self, "headers", encode_headers(headers))


OPENAI_ERRORS = OpenAIErrors()
SSE = Framing("text/event-stream; charset=utf-8", KEEP_ALIVE)
NDJSON = Framing("application/x-ndjson")

# A shared cache would serve one caller's answer to another.
WHOLE_HEADERS = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))


def whole_headers(body: bytes) -> list[tuple[bytes, bytes]]:
    """The headers of a whole answer: JSON that must not be cached."""
    return [*WHOLE_HEADERS, (b"content-length", b"%d" % len(body))]


@dataclass(slots=True)
class RecordedAnswer:
    """A copy of an answer. `body` becomes None after more than `left` bytes; `complete` is True after the last one."""

    left: int
    complete: bool = False
    headers: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    body: list[bytes] | None = field(default_factory=list[bytes])

    def add(self, piece: ResponseBody) -> None:
        """Copy a piece of the body."""
        self.left -= len(piece.data)
        self.complete = not piece.more
        if self.left < 0:
            self.body = None
        elif self.body is not None:
            self.body.append(piece.data)
