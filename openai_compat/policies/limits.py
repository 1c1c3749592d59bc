"""How much a request may ask for, and how long it may take."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio

from ..callables import close
from ..errors import RequestTimeout, RequestTooLarge
from ..http import HttpRequest
from ..stores.port import LEASE


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on size and number.

    Attributes:
        body: bytes of a request body. The default takes pictures as base64.
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
    choices: int = 8
    answer: int = 50_000_000
    slots: int = 64
    slots_per_agent: int | None = None
    slots_per_principal: int | None = None
    shared_slots: int | None = None


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Bounds on time, all in seconds.

    Attributes:
        first_event: silence before the agent's first event, None for no bound of its own; 504 `agent_silent`.
        idle: silence between two events, likewise.
        request: a whole turn, from the parsed request to the agent's last word; 504 or an error in the stream.
        body: the arrival of the request body; 408.
        head: how long a stream's 200 is held back for the agent's first event, so that early failures have a status.
        heartbeat: silence in a stream after which a comment is sent.
        write: one write to a client that does not read; the connection is cut.
        grace: how long a stopped agent may take to end before it is reported as a leak.
        lease: how long what a turn holds in a shared store is still taken for held after its process has died.
    """

    request: float = 300.0
    body: float = 30.0
    head: float = 2.0
    heartbeat: float = 10.0
    write: float = 60.0
    grace: float = 5.0
    lease: float = LEASE
    first_event: float | None = None
    idle: float | None = None


async def read_body(request: HttpRequest, limit: int, seconds: float) -> bytes:
    """The body, refused as soon as it is known to be longer than `limit` bytes or slower than `seconds`."""
    if _announced(request) > limit:
        raise _too_large(limit)
    with anyio.move_on_after(seconds):
        return await _read(request.body, limit)
    raise RequestTimeout(f"The request body did not arrive within {seconds:g} seconds.")


def _announced(request: HttpRequest) -> int:
    length = request.header(b"content-length") or ""
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0


async def _read(pieces: AsyncIterator[bytes], limit: int) -> bytes:
    received: list[bytes] = []
    size = 0
    try:
        async for piece in pieces:
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
            received.append(piece)
    finally:
        await close(pieces)
    return b"".join(received)


def _too_large(limit: int) -> RequestTooLarge:
    return RequestTooLarge(f"The request body is over the limit of {limit} bytes.")
