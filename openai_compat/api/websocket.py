"""One WebSocket as endpoints see it: the caller, and frames with a deadline."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import anyio

from ..agent_request import Principal
from ..aio.background import drop_tracebacks
from ..aio.timers import ScopeTimeout, asyncio_loop, clock
from ..errors import OpenAICompatError
from ..http import Channel, Frame, HttpRequest, encode_headers
from ..policies.authenticate import Auth, OpenAccess
from ..policies.hooks import RefusalReason
from ..turns.refusals import refusal_reason
from ..turns.turn_log import TurnLog
from .answer_form import OPENAI_ERRORS, ErrorForm, whole_headers
from .exchange import NOBODY

NORMAL, GOING_AWAY, POLICY, TOO_BIG, INTERNAL, RESTART = 1000, 1001, 1008, 1009, 1011, 1012
"""Close codes (RFC 6455, 7.4.1; 1012 is in IANA's registry). Clients that reconnect do so after 1001, 1011 and 1012."""


SLACK = 0.05
"""Fraction by which a write deadline may be shorter, for a frame that follows others."""


class WebSocketConnection:
    """A WebSocket and its opening request.

    Attributes:
        request: the opening request.
        request_id: the `x-request-id` of the answer.
        route: the template of its path, if there is one.
        on_answered: called once it is accepted or refused, or its client has left before.
        principal: the caller, as far as known.
        status: the status that was sent, 0 before; 101 once it is accepted.
        errors: the error format of its API.
        note: a word for the access log about how it ended.
        refused: why it was refused, for metrics and logs.
        began: when the request came in (`time.monotonic`).
        turn: always None: turns on the connection have their own log lines.
        closed: True once the server has closed it.
        draining: set when the server shuts down: endpoints close the connection as soon as nothing runs on it.
        scope: all work for the connection, which is cancelled if the client does not read.
    """

    def __init__(
        self, request: HttpRequest, channel: Channel, request_id: str, write_deadline: float, auth: Auth
    ) -> None:
        self.request = request
        self.request_id = request_id
        self.route: str | None = None
        self.on_answered: Callable[[], object] | None = None
        self.principal = NOBODY
        self.status = 0
        self.note = ""
        self.refused: RefusalReason | None = None
        self.errors: ErrorForm = OPENAI_ERRORS
        self.closed = False
        self.draining = anyio.Event()
        self.scope = anyio.CancelScope()
        self._auth = auth
        self._channel = channel
        self._timeout = ScopeTimeout(self.scope)
        self._write_deadline = write_deadline
        self._clock = clock()
        self._one_at_a_time = anyio.Lock(fast_acquire=True)
        self.began = time.monotonic()
        self.turn: TurnLog | None = None

    @property
    def seconds(self) -> float:
        """Time since the request came in."""
        return time.monotonic() - self.began

    async def authenticate(self) -> None:
        """Authenticate the caller; again before each turn, since keys can be revoked. Raises Unauthorized."""
        if self.status and isinstance(self._auth, OpenAccess):  # no key was needed, so none can be revoked
            return
        self.principal = await self._auth.principal(self.request, self.request_id)

    async def accept(self, subprotocol: str | None = None) -> None:
        """Accept the connection. Until then it can be refused."""
        # Before sending: from here on an error can only close the connection.
        self.status = 101
        await self._channel.accept(encode_headers([("X-Request-Id", self.request_id)]), subprotocol)
        self._report_answered()

    def _report_answered(self) -> None:
        on_answered, self.on_answered = self.on_answered, None
        if on_answered is not None:
            on_answered()

    async def fail(self, error: OpenAICompatError) -> None:
        """Refuse with the error's own status, or close the connection if it was accepted."""
        self.note = error.code or error.type
        drop_tracebacks(error)
        if self.status:
            await self.close(INTERNAL, self.note)
            return
        self.status, self.refused = error.status, refusal_reason(error)
        body = self.errors.body(error, self.request_id)
        own = encode_headers([("X-Request-Id", self.request_id), *self.errors.headers(error)])
        await self._channel.refuse(error.status, [*own, *whole_headers(body)], body)

    def receive(self) -> Awaitable[Frame]:
        """The next frame. Raises ClientDisconnected once the client has left."""
        return self._channel.receive()

    async def send(self, *frames: Frame) -> None:
        """Send frames, one after the other. A client that does not read one in time is cut off."""
        async with self._one_at_a_time:
            until = -math.inf
            try:
                for frame in frames:
                    if self.closed:
                        return
                    # Not restarted for each frame: that would add a tenth to the cost of sending one.
                    if self._clock() > until:
                        self._timeout.start(self._write_deadline)
                        until = self._clock() + self._write_deadline * SLACK
                    await self._channel.send(frame)
            finally:
                self._timeout.stop()

    async def close(self, code: int, reason: str = "") -> None:
        """Close the connection. Frames that are sent afterwards are dropped."""
        async with self._one_at_a_time:
            if self.closed:
                return
            self.closed = True
            self._timeout.start(self._write_deadline)
            try:
                await self._channel.close(code, reason)
            finally:
                self._timeout.stop()

    def end(self) -> None:
        """Stop the write timer; nothing is sent afterwards."""
        self._timeout.close()
        self._report_answered()


@dataclass(slots=True)
class WebSocketRequester:
    """The requester of a turn on a WebSocket: not the turn itself, which would make a reference cycle."""

    principal: Principal
    request_id: str
    turn: TurnLog | None = None
    headers: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    loop: asyncio.AbstractEventLoop | None = field(default_factory=asyncio_loop)

    def note_ignored(self, parameters: Sequence[str]) -> None:
        """Nothing: frames have no headers, and the log has the parameters."""
