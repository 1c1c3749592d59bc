"""Checks of a request body: its content type and its compression.

A compressed body is decompressed piece by piece, so that the reader can stop at any size.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator

import anyio.lowlevel

from ..agents.adapt import close
from ..errors import InvalidRequest, RequestTooLarge, UnsupportedMedia
from ..http import HttpRequest
from .auth import AZURE_HEADER

ACCEPTED_CODINGS = "gzip, deflate, identity"
INPUT_STEP, OUTPUT_STEP = 64 * 1024, 256 * 1024
"""Bytes that are decompressed, and produced, per step."""


def check_content_type(request: HttpRequest) -> None:
    """Raise UnsupportedMedia for a request from a web page that is not JSON.

    A page may post text/plain or a form to any server without a preflight (CSRF), so these are refused from browsers.
    Programs often send JSON with curl's default form type, which is accepted.
    """
    kind = _media_type(request)
    if kind != "application/json" and not kind.endswith("+json") and _is_from_page(request):
        raise UnsupportedMedia("The request needs 'Content-Type: application/json'.")


def check_form(request: HttpRequest) -> None:
    """Raise UnsupportedMedia for anything but a multipart form sent by a program.

    A page may send one too if it sends its key in a header, since that needs a preflight (CORS).
    """
    if _media_type(request) != "multipart/form-data":
        raise UnsupportedMedia("The request needs 'Content-Type: multipart/form-data'.")
    bearer = (request.header(b"authorization") or "").lower().startswith("bearer ")
    if _is_from_page(request) and not bearer and request.header(AZURE_HEADER) is None:
        raise UnsupportedMedia("Web pages have to send 'Authorization: Bearer KEY' with a form.")


def _media_type(request: HttpRequest) -> str:
    return (request.header(b"content-type") or "").partition(";")[0].strip().lower()


def _is_from_page(request: HttpRequest) -> bool:
    return request.header(b"origin") is not None or request.header(b"sec-fetch-site") in ("cross-site", "same-site")


def content_coding(request: HttpRequest) -> str:
    """Return `gzip`, `deflate` or `identity`. Raises UnsupportedMedia for any other coding, and for more than one."""
    sent = request.header_values(b"content-encoding")
    if not sent:
        return "identity"
    listed = ",".join(sent).lower().split(",")
    # `x-gzip` is gzip (RFC 9110, 8.4.1.3).
    codings = [name for listing in listed if (name := listing.strip().removeprefix("x-")) not in ("", "identity")]
    if not codings:
        return "identity"
    # Each layer of compression multiplies the size that a small body may expand to.
    if len(codings) > 1 or codings[0] not in ("gzip", "deflate"):
        text = f"A request body is compressed in one of these ways: {ACCEPTED_CODINGS}."
        raise UnsupportedMedia(text, headers={"Accept-Encoding": ACCEPTED_CODINGS})
    return codings[0]


async def decompress(coding: str, pieces: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """Decompress a body piece by piece. Raises RequestTooLarge for more than `limit` compressed bytes; InvalidRequest."""
    size, decompressor = 0, Decompressor(coding)
    try:
        async for piece in pieces:
            size += len(piece)
            if size > limit:
                raise too_large(limit)
            for part in decompressor.feed(piece):
                yield part
                await anyio.lowlevel.checkpoint()  # a small piece may expand to a large one
        decompressor.end()
    finally:
        await close(pieces)


def too_large(limit: int) -> RequestTooLarge:
    """Create the error for a body of more than `limit` bytes."""
    return RequestTooLarge(f"The request body is over the limit of {limit} bytes.")


class Decompressor:
    """Decompresses one body, whose pieces are fed in order; `end` then checks that the body was complete."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 16 if coding == "gzip" else zlib.MAX_WBITS)
        self._begun = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Decompress the next piece, a bounded part at a time. Raises InvalidRequest."""
        if piece and not self._begun:
            self._begun = True
            if self._coding == "deflate" and piece[0] & 0x0F != zlib.DEFLATED:  # some clients omit the zlib header
                self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
        for start in range(0, len(piece), INPUT_STEP):  # bounded input: zlib copies the unused rest on each call
            yield from self._decompress(piece[start : start + INPUT_STEP])

    def _decompress(self, data: bytes) -> Iterator[bytes]:
        full = True
        while data or (full and not self._zlib.eof):
            if self._zlib.eof:
                raise InvalidRequest(f"Something follows the end of the {self._coding} body.")
            try:
                # Bounded, since a kilobyte may expand to a megabyte: the reader counts each part against its limit.
                opened = self._zlib.decompress(data, OUTPUT_STEP)
            except zlib.error:
                raise InvalidRequest(f"The body is not valid {self._coding}.") from None
            yield opened
            data, full = self._zlib.unused_data or self._zlib.unconsumed_tail, len(opened) == OUTPUT_STEP

    def end(self) -> None:
        """Raise InvalidRequest if the body is incomplete."""
        if not self._zlib.eof:
            raise InvalidRequest(f"The {self._coding} body is cut short.")
