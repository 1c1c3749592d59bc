"""Turns whose connection broke: Claude Code repeats the request, and gets the answer of the running or finished turn.

No other client's repeated requests can be told from new ones. Claude Code names a session; within the session, a
conversation without new messages means the same turn. Each process knows only its own turns.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel

from ...aio.off_loop import run_off_loop
from ...errors import Conflict, OpenAICompatError
from ...http import ResponseBody
from ...policies.disconnect import Disconnect
from ...state.event_log import EventLog
from ...wire.anthropic_messages.events import PING
from ...wire.anthropic_messages.parse import ParsedMessages
from ...wire.anthropic_messages.retried_requests import RestOfAnswer, WantedAnswer, fold_answer, wanted_answer
from ...wire.anthropic_messages.serialize import MessageForm
from ..answer_form import RecordedAnswer
from ..detach import DetachableWork, run_once
from ..exchange import Exchange
from ..idempotency import REPLAYED_HEADER
from ..services import Services

AGENT_HEADER = b"x-claude-code-agent-id"
"""Marks requests of a session that do not belong to its conversation: those of Claude Code's own agents."""

MOST_BYTES = 16 * 1024 * 1024
"""Longest answer that can be replayed, in bytes."""

MOST_KEPT = 64 * 1024 * 1024
"""Size of all finished answers that are kept, in bytes."""

UNDELIVERED_SECONDS = 300.0
"""Seconds for which an undelivered answer is kept: Claude Code retries ten times within that time."""

CANCEL = Disconnect("cancel")
"""This module handles clients that leave."""


@dataclass(frozen=True, slots=True)
class ReplayKey:
    """Identifies a turn by its principal, its session, the one of Claude Code's own agents, and a digest of the conversation."""

    principal: str
    session: str
    agent: str
    digest: str


@dataclass(slots=True)
class FollowedAnswer(RecordedAnswer):
    """A copy of an answer that other requests can follow while it is being produced.

    Attributes:
        log: the events of a stream.
        whole: the body of an answer that is not streamed.
        size: the number of bytes so far.
    """

    log: EventLog = field(default_factory=EventLog)
    whole: bytes = b""
    size: int = 0

    def add(self, piece: ResponseBody) -> None:
        """Copy a piece of the body, unless the answer is too long."""
        RecordedAnswer.add(self, piece)
        self.size += len(piece.data)
        if self.too_long:
            self.log.end()
            self.log, self.whole = EventLog(), b""
        elif not self._is_stream:
            self.whole += piece.data
        elif piece.data:
            # One entry per piece of whole events: no reader starts in the middle of a piece.
            self.log.add(piece.data, self.log.last + 1)

    @property
    def too_long(self) -> bool:
        """True if the answer is longer than MOST_BYTES and so no longer kept."""
        return self.size > MOST_BYTES

    @property
    def _is_stream(self) -> bool:
        return ("content-type", "application/json") not in self.headers


class ReplayableTurn:
    """A turn whose answer may be requested again.

    Attributes:
        services: the services of the server that runs it.
        streams: True if the answer is a stream.
        answer: the copy of the answer.
        last_sent: when the turn ended, or its answer was last sent in full (`time.monotonic`).
        delivered: True if a client has received the whole answer.
        ended: True once nothing follows.
        loop: the event loop that the turn runs in.
    """

    def __init__(self, services: Services, *, streams: bool) -> None:
        self.services = services
        self.streams = streams
        self.answer = FollowedAnswer(0)
        self.last_sent = 0.0
        self.delivered = False
        self.ended = False
        self.loop = anyio.lowlevel.current_token().native_token
        self._started = False
        self._status = 0
        self._followers = 0
        self._work: DetachableWork | None = None
        self._error: OpenAICompatError | None = None

    async def run(self, exchange: Exchange, work: Callable[[], Awaitable[None]], grace: float) -> None:
        """Run the work of the first request, which also serves those that repeat it."""
        detachable = self._work = DetachableWork(exchange, work, grace)
        try:
            await detachable.run()
        except BaseException:
            if self._followers:  # the first client has left, but others follow
                detachable.end_grace_period()
            raise

    async def record_answer(self, exchange: Exchange, answer: Callable[[], Awaitable[None]]) -> None:
        """Produce the answer, and a copy of it."""
        if exchange.recording is not None:  # `replay_failures` records the answer too
            self.answer.left = exchange.recording.left
        exchange.recording = self.answer
        try:
            await answer()
        except OpenAICompatError as error:
            self._error = error
            raise
        finally:
            self._started, self._status = exchange.agent_started, exchange.status
            self.last_sent = time.monotonic()
            self.delivered = exchange.complete and not exchange.detached
            self.ended = True
            self._work = None  # it references the whole request
            self.answer.log.end()

    def is_worth_keeping(self, exchange: Exchange) -> bool:
        """False if the request may run again: no agent was started, or the agent was stopped because no client was left."""
        if not self._started or (self._error is not None and self._error.should_retry is True):
            return False
        return exchange.failed if exchange.status >= 400 else self._error is not None or exchange.complete

    async def replay(self, exchange: Exchange, asked: WantedAnswer, form: MessageForm) -> None:
        """Answer a repeated request, from the beginning or after the part that its client still has."""
        self._followers += 1
        if self._work is not None:
            self._work.end_grace_period()
        exchange.about.append(REPLAYED_HEADER)
        try:
            rest = RestOfAnswer(asked.survived, form.id) if asked.survived else None
            pieces: list[bytes] = []
            async for frames, _ in self.answer.log.follow(-1, self.services.settings.deadlines.heartbeat):
                shown = frames if rest is None else rest.feed(frames)
                if not form.streams:
                    pieces.append(shown)
                    continue
                # The head is sent with the first frames: until then, an error can have its own status.
                await exchange.write(shown or PING)
            await self._send_end(exchange, b"".join(pieces), streams=form.streams)
            self.last_sent, self.delivered = time.monotonic(), True
        finally:
            self._followers -= 1
            if self._work is not None and self._work.alone and not self._followers:
                self._work.start_grace_period()

    async def _send_end(self, exchange: Exchange, frames: bytes, *, streams: bool) -> None:
        """Send the end of a stream, or the whole answer. Raises the turn's error if it failed."""
        exchange.agent_started = self._started
        if self._error is not None:
            raise self._error
        if self.answer.too_long or not self.answer.complete:
            text = "The answer was lost with its connection: it was too long to be kept, or was stopped."
            raise Conflict(text, code="answer_lost", should_retry=False)
        if self.answer.whole:  # also for a stream that failed before its first event
            await exchange.repeat(self._status, self.answer.headers, self.answer.whole)
        elif streams:
            await exchange.end()
        else:
            good, body = fold_answer(frames)
            await exchange.answer(200 if good else 500, body, *([] if good else [("X-Should-Retry", "false")]))


class ReplayableTurns:
    """The turns of this process whose answers Claude Code may request again.

    Attributes:
        seconds: how long an agent goes on after its client has left, and how long after the end of an answer the same
            request counts as a repetition; 0 disables both.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._turns: dict[ReplayKey, ReplayableTurn] = {}

    async def identify(
        self, exchange: Exchange, session: str, parsed: ParsedMessages, *, long: bool
    ) -> tuple[ReplayKey, WantedAnswer] | None:
        """Identify a request of Claude Code. None if replay is off, or a thread or an idempotency key identifies it already."""
        http = exchange.request
        if not self.seconds or parsed.thread is not None or http.header(b"idempotency-key") is not None:
            return None
        asked = await run_off_loop(wanted_answer, parsed.body, long=long)
        return ReplayKey(exchange.principal.id, session, http.header(AGENT_HEADER) or "", asked.digest), asked

    def find(self, services: Services, key: ReplayKey, *, streams: bool) -> ReplayableTurn | None:
        """The turn that already answers this request, or None if the request is new."""
        self._drop_expired()
        turn = self._turns.get(key)
        if turn is None or turn.services is not services or (streams and not turn.streams):
            return None
        return turn if turn.ended or turn.loop == anyio.lowlevel.current_token().native_token else None

    async def run(
        self,
        key: ReplayKey,
        services: Services,
        exchange: Exchange,
        body: bytes,
        answer: Callable[[], Awaitable[None]],
        *,
        streams: bool,
    ) -> None:
        """Answer a new request, and keep the answer for repetitions."""
        turn = self._turns[key] = ReplayableTurn(services, streams=streams)
        making = run_once(services, exchange, body, lambda: turn.record_answer(exchange, answer), CANCEL)
        del body  # or it would stay in memory for as long as the stream lasts

        async def work() -> None:
            try:
                await making
            finally:
                if self._turns.get(key) is turn and not turn.is_worth_keeping(exchange):
                    del self._turns[key]

        policy = services.settings.disconnect
        grace = {"cancel": self.seconds, "detach": policy.grace, "finish": math.inf}[policy.then]
        await turn.run(exchange, work, grace)

    def _drop_expired(self) -> None:
        """Drop answers that have expired, and the oldest ones beyond MOST_KEPT bytes."""
        now, size = self._clock(), 0
        for key, turn in reversed(list(self._turns.items())):
            if not turn.ended:
                continue
            size += turn.answer.size
            if size > MOST_KEPT or now - turn.last_sent > (self.seconds if turn.delivered else UNDELIVERED_SECONDS):
                del self._turns[key]
