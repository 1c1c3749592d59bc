"""How much a request may ask for, and how long it may take."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio
import anyio.lowlevel

from ..callables import close
from ..errors import RequestTimeout, RequestTooLarge
from ..http import HttpRequest
from ..off_loop import off_loop
from ..parsers.values import MAX_VALUES, QUICK_BYTES, check_values, is_quick
from ..setting_types import check_fields
from ..stores.port import LEASE
from .encodings import Opener, content_coding

Result = TypeVar("Result")

QUICK_FRAME = 50_000
"""Bytes of a frame that are read in no time, whatever they hold."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on size and number.

    Attributes:
        body: bytes of a request body. The default takes pictures as base64.
        values: values in the JSON of a request, or of a frame on a WebSocket: objects, lists, texts, numbers. Each
            costs some sixty bytes of memory and some microseconds, however short it is.
        file: bytes of an uploaded file.
        files: files that a principal may have uploaded.
        attachments: bytes of all uploaded files that an agent gets at once, each as often as it is named.
        choices: `n`, the answers that one request may ask for.
        answer: size of a plain answer, in characters, or bytes of media; an agent that says more fails with 502.
        slots: agents running at once, over all requests; what more requests get is for `Admission` to say. A request
            for `n` answers needs `n` slots. This also bounds the threads of plain agents.
        slots_per_agent: the same for each agent, None for no bound of its own.
        slots_per_principal: the same for each API key's owner.
        shared_slots: agents running at once in all processes that share the server's store; the slots of a process
            that has died are free again after `Deadlines.lease`.
    """

    body: int = 20 * 1024 * 1024
    values: int = MAX_VALUES
    file: int = 32 * 1024 * 1024
    files: int = 100
    attachments: int = 50 * 1024 * 1024
    choices: int = 8
    answer: int = 50_000_000
    slots: int = 64
    slots_per_agent: int | None = None
    slots_per_principal: int | None = None
    shared_slots: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Bounds on time, all in seconds.

    Attributes:
        first_event: silence before the agent's first event, None for no bound of its own; 504 `agent_silent`.
        idle: silence between two events, likewise.
        request: a whole turn, from the parsed request to the agent's last word; 504 or an error in the stream.
        background: the same for a response in the background.
        body: the arrival of the request body; 408.
        head: how long a stream's 200 is held back for the agent's first event, so that early failures have a status.
        heartbeat: silence in a stream after which a comment is sent.
        write: one write to a client that does not read; the connection is cut.
        connection: how long a WebSocket lasts; the client has to connect anew then.
        grace: how long a stopped agent may take to end before it is reported as a leak.
        lease: how long what a turn holds in a shared store is still taken for held after its process has died.
    """

    request: float = 300.0
    background: float = 3600.0
    body: float = 30.0
    head: float = 2.0
    heartbeat: float = 10.0
    write: float = 60.0
    grace: float = 5.0
    connection: float = 3600.0
    lease: float = LEASE
    first_event: float | None = None
    idle: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)


async def read_body(request: HttpRequest, limits: Limits, deadlines: Deadlines) -> bytes:
    """A body of JSON, refused as soon as it is known to be too long or too slow, or to hold too many values."""
    received: list[bytes] = []
    await feed_body(request, limits.body, deadlines.body, received.append)
    body = b"".join(received)
    await off_loop(partial(check_values, body, limits.values), long=len(body) > QUICK_BYTES)
    return body


async def parse_body(body: bytes, work: Callable[[], Result]) -> Result:
    """What `work`, which reads this body, returns or raises: beside the event loop, if there is a lot in it."""
    return await off_loop(work, long=not is_quick(body))


async def parse_frame(size: int, work: Callable[[], Result]) -> Result:
    """The same for a frame of a WebSocket, and for what was in one of this size."""
    return await off_loop(work, long=size > QUICK_FRAME)


async def feed_body(request: HttpRequest, limit: int, seconds: float, feed: Callable[[bytes], None]) -> None:
    """Give a body to `feed` piece by piece, at most `limit` bytes as sent and as opened, for so many seconds."""
    if _announced(request) > limit:
        raise _too_large(limit)
    coding = content_coding(request)
    pieces = request.body if coding == "identity" else _opened(Opener(coding), request.body, limit)
    with anyio.move_on_after(seconds):
        await _read(pieces, limit, feed)
        return
    raise RequestTimeout(f"The request body did not arrive within {seconds:g} seconds.")


def _announced(request: HttpRequest) -> int:
    length = request.header(b"content-length") or ""
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0


async def _opened(opener: Opener, pieces: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """What is in a compressed body."""
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


async def _read(pieces: AsyncIterator[bytes], limit: int, feed: Callable[[bytes], None]) -> None:
    size = 0
    try:
        async for piece in pieces:
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
            feed(piece)
    finally:
        await close(pieces)


def _too_large(limit: int) -> RequestTooLarge:
    return RequestTooLarge(f"The request body is over the limit of {limit} bytes.")
