"""The request queue of one Responses WebSocket: first in, first out in each lane, lanes in parallel.

It knows no sockets and no agents: callers report new and finished requests, and it returns those to run next.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ....errors import InvalidRequest, RateLimited
from ....wire.responses.parse.websocket import Create


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """Limits of one connection.

    Attributes:
        active: responses that run at once; further requests wait. OpenAI allows 16.
        names: different `stream_id`s in the life of the connection. OpenAI allows 32.
        waiting: requests that may wait.
        bytes: size of the waiting requests together.
    """

    active: int = 16
    names: int = 32
    waiting: int = 64
    bytes: int = 20 * 1024 * 1024


class Lanes:
    """The requests of one connection. Each is added, taken when its turn comes, and done in the end."""

    def __init__(self, limits: LaneLimits) -> None:
        self._limits = limits
        self._waiting: deque[Create] = deque()
        self._size = 0
        self._names: set[str] = set()
        # All requests without a `stream_id` form one lane: Open Responses does not allow them to be mixed.
        self._running: set[str | None] = set()

    @property
    def idle(self) -> bool:
        """True if nothing runs and nothing waits."""
        return not self._running and not self._waiting

    def add(self, request: Create, *, first: bool = False) -> None:
        """Queue a request; with `first`, before all others of its lane, whatever the limits say.

        Raises InvalidRequest for a lane too many (`websocket_stream_limit_reached`), RateLimited for a request too many.
        """
        if first:
            self._waiting.appendleft(request)
        else:
            self._check(request)
            self._waiting.append(request)
        self._size += request.size

    def _check(self, request: Create) -> None:
        name = request.lane
        if name is not None and name not in self._names:
            if len(self._names) >= self._limits.names:
                text = f"A connection takes at most {self._limits.names} different values of 'stream_id'."
                raise InvalidRequest(text, param="stream_id", code="websocket_stream_limit_reached")
            self._names.add(name)
        full = len(self._waiting) >= self._limits.waiting or self._size + request.size > self._limits.bytes
        # The first waiting request is accepted whatever its size: it is within the limit of a body.
        if self._waiting and full:
            text = "Too many requests wait on this connection. Send more when some of them have ended."
            raise RateLimited(text, code="websocket_queue_full")

    def take(self) -> list[Create]:
        """Take the requests whose turn has come; they count as running."""
        taken: list[Create] = []
        # In order of arrival, but past those whose lane is busy: lanes do not wait for each other.
        for request in list(self._waiting):
            if len(self._running) >= self._limits.active:
                break
            if request.lane not in self._running:
                self._waiting.remove(request)
                self._size -= request.size
                self._running.add(request.lane)
                taken.append(request)
        return taken

    def mark_done(self, request: Create) -> None:
        """Note that a request that was taken has ended."""
        self._running.discard(request.lane)

    def drop(self) -> list[Create]:
        """Take all waiting requests, without running them."""
        dropped = list(self._waiting)
        self._waiting.clear()
        self._size = 0
        return dropped
