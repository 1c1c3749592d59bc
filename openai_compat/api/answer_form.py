"""The form of an API's answers: how it tells errors, and how it frames streams; the headers and the copy of a whole one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from ..errors import OpenAICompatError
from ..http import RawHeaders, ResponseBody, encode_headers
from ..wire.errors import error_body, error_frame, error_headers
from ..wire.json import KEEP_ALIVE


class ErrorForm(Protocol):
    """How an API tells what went wrong. The status is the error's own."""

    def body(self, error: OpenAICompatError, request_id: str) -> bytes:
        """The body of an error answer, JSON. `request_id` is the answer's, for forms that tell it there too."""
        ...

    def headers(self, error: OpenAICompatError) -> list[tuple[str, str]]:
        """The headers that go with it, but for those of every answer."""
        ...

    def frame(self, error: OpenAICompatError, request_id: str) -> bytes:
        """The last frame of a stream that fails after it has begun."""
        ...


class OpenAIErrors:
    """The form of errors that OpenAI's SDKs read."""

    def body(self, error: OpenAICompatError, request_id: str) -> bytes:
        """`{"error": {"message", "type", "param", "code"}}`. The id is in a header."""
        return error_body(error)

    def headers(self, error: OpenAICompatError) -> list[tuple[str, str]]:
        """Retry hints, and whatever the error brings itself."""
        return error_headers(error)

    def frame(self, error: OpenAICompatError, request_id: str) -> bytes:
        """The envelope as an event, without an end mark."""
        return error_frame(error)


@dataclass(frozen=True, slots=True)
class Framing:
    """How an API frames its streams.

    Attributes:
        content_type: of the answer.
        keep_alive: what fills a silence; nothing, where any byte would be read as part of the answer.
        headers: of the answer.
    """

    content_type: str
    keep_alive: bytes = b""
    headers: RawHeaders = field(init=False)

    def __post_init__(self) -> None:
        headers = [
            ("Content-Type", self.content_type),
            ("Cache-Control", "no-cache, no-store"),
            # nginx would hold the stream back otherwise.
            ("X-Accel-Buffering", "no"),
        ]
        object.__setattr__(self, "headers", encode_headers(headers))


OPENAI_ERRORS = OpenAIErrors()
SSE = Framing("text/event-stream; charset=utf-8", KEEP_ALIVE)
NDJSON = Framing("application/x-ndjson")

# A cache on the way would hand one caller's answer to another.
WHOLE = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))


def whole_headers(body: bytes) -> list[tuple[bytes, bytes]]:
    """The headers of a whole answer: JSON that nobody may cache."""
    return [*WHOLE, (b"content-length", b"%d" % len(body))]


@dataclass(slots=True)
class RecordedAnswer:
    """A copy of an answer. `body` is None once there was more than `left` bytes of it; `complete` at its end."""

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
