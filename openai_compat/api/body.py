"""Request bodies: read within the limits on size, time and number of values, and parsed beside the event loop if long."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from typing import TypeVar, TypeVarTuple, Unpack

import anyio.lowlevel

from ..agents.adapt import close
from ..aio.off_loop import off_loop
from ..errors import RequestTooLarge
from ..policies.content import Opener, check_content_type, content_coding
from ..policies.limits import Deadlines, Limits
from ..wire.json import QUICK_BYTES, check_values, is_quick
from .exchange import Exchange

Result = TypeVar("Result")
Args = TypeVarTuple("Args")

SMALL = 64 * 1024
"""Bytes of a body that is read although it is refused."""

QUICK_FRAME = 50_000
"""Bytes of a frame that are read in no time, whatever they hold."""


async def read_body(exchange: Exchange, limits: Limits, deadlines: Deadlines) -> bytes:
    """A body of JSON, refused as soon as it is known to be too long or too slow, or to hold too many values.

    One that a web page sends as something else is refused before it is read: see `check_content_type`.
    """
    if exchange.request.first.get(b"content-type") != b"application/json":  # nearly always it is
        check_content_type(exchange.request)
    received: list[bytes] = []
    await feed_body(exchange, limits.body, deadlines.body, received.append)
    body = b"".join(received)
    if len(body) > QUICK_BYTES:
        # A body of 100,000 values takes longer than other requests should wait.
        await off_loop(check_values, body, limits.values)
    elif len(body) > limits.values:  # each takes more than a byte
        check_values(body, limits.values)
    return body


async def parse_body(body: bytes, parse: Callable[[Unpack[Args]], Result], *args: *Args) -> Result:
    """Parse a body by `parse(*args)`: in a thread, if it is large. Raises what that raises."""
    return await off_loop(parse, *args, long=not is_quick(body))


async def parse_frame(size: int, parse: Callable[[Unpack[Args]], Result], *args: *Args) -> Result:
    """The same for a frame of a WebSocket, and for what was in one of this size."""
    return await off_loop(parse, *args, long=size > QUICK_FRAME)


async def feed_body(exchange: Exchange, limit: int, seconds: float, feed: Callable[[bytes], None]) -> None:
    """Give a body to `feed` piece by piece, at most `limit` bytes as sent and as opened, for so many seconds."""
    request = exchange.request
    # Before anything is read: a client that sends `Expect: 100-continue` is told to go on by the first read.
    coding = content_coding(request) if b"content-encoding" in request.first else "identity"
    length = request.first.get(b"content-length", b"")
    # `int` raises ValueError for thousands of digits. What is longer, or unknown, is counted as it comes.
    announced = int(length) if length.isdigit() and len(length) < 20 else math.inf
    if limit < announced < math.inf:
        raise _too_large(limit)
    pieces = request.body if coding == "identity" else _opened(Opener(coding), request.body, limit)
    # For the whole of it: a client that sends a byte a second is never silent for long.
    exchange.expect_body(seconds)
    size = 0  # a chunked body announces none, and what is opened has another
    try:
        async for piece in pieces:
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
            feed(piece)
    except RequestTooLarge:
        if announced <= SMALL:
            # To its end: what arrives after the answer has the connection reset, and the answer lost with it.
            async for _ in request.body:
                pass
        raise
    finally:
        # A generator that has come to its end has no frame any more, and nothing to be closed.
        if hasattr(pieces, "aclose") and getattr(pieces, "ag_frame", pieces) is not None:
            await close(pieces)
    exchange.body_arrived()


async def _opened(opener: Opener, pieces: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """Decompress a body piece by piece."""
    size = 0
    try:
        async for piece in pieces:
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
            for opened in opener.open(piece):
                yield opened
                await anyio.lowlevel.checkpoint()  # a small piece may become a large one
        opener.end()
    finally:
        await close(pieces)


def _too_large(limit: int) -> RequestTooLarge:
    return RequestTooLarge(f"The request body is over the limit of {limit} bytes.")
