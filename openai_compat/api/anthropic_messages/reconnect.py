"""Turns whose connection broke: Claude Code sends their request again, and is told what the agent says, or has said.

Nobody else can tell a request that is sent again from one that is made anew. Claude Code's names a session; within that, a
conversation that has not got on is the same turn. Each process knows its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel

from ...aio.off_loop import off_loop
from ...errors import Conflict, OpenAICompatError
from ...http import ResponseBody
from ...policies.disconnect import Disconnect
from ...state.event_log import EventLog
from ...wire.anthropic_messages.asked_again import AskedFor, RestOfAnswer, asked_for, whole_answer
from ...wire.anthropic_messages.events import PING
from ...wire.anthropic_messages.parse import ParsedMessages
from ...wire.anthropic_messages.serialize import MessageForm
from ..answer_form import RecordedAnswer
from ..detach import DetachableWork, run_once
from ..exchange import Exchange
from ..idempotency import REPLAYED
from ..services import Services

BESIDE = b"x-claude-code-agent-id"
"""Comes with requests of such a session that are no part of its conversation: those of Claude Code's own agents."""

MOST_BYTES = 16 * 1024 * 1024
"""Longest answer that can be told again."""

MOST_KEPT = 64 * 1024 * 1024
"""Bytes of all answers that are kept once they have ended."""

UNDELIVERED = 300.0
"""Seconds for which an answer waits that its client has not got: so long Claude Code tries again, ten times."""

ONCE = Disconnect("cancel")
"""Who leaves is seen to here."""


@dataclass(frozen=True, slots=True)
class SentKey:
    """Whose turn it is, of which session and which of Claude Code's own agents, and what was asked."""

    principal: str
    session: str
    agent: str
    digest: str


@dataclass(slots=True)
class FollowedAnswer(RecordedAnswer):
    """A copy of an answer that others can follow while it is made.

    Attributes:
        log: the events of a stream.
        whole: the body of an answer that is none.
        size: bytes of either.
    """

    log: EventLog = field(default_factory=EventLog)
    whole: bytes = b""
    size: int = 0

    def add(self, piece: ResponseBody) -> None:
        """Copy a piece of the body, as long as it is not too much."""
        RecordedAnswer.add(self, piece)
        self.size += len(piece.data)
        if self.too_long:
            self.log.end()
            self.log, self.whole = EventLog(), b""
        elif not self._streams:
            self.whole += piece.data
        elif piece.data:
            # By pieces, of whole events: nobody asks for those after a number.
            self.log.add(piece.data, self.log.last + 1)

    @property
    def too_long(self) -> bool:
        """True if it is not kept any more."""
        return self.size > MOST_BYTES

    @property
    def _streams(self) -> bool:
        return ("content-type", "application/json") not in self.headers


class SentTurn:
    """A turn that may be asked for again.

    Attributes:
        services: of the server that runs it.
        streams: whether its answer is a stream.
        answer: what was said.
        told: when somebody was last told all of it.
        delivered: whether anybody was.
        ended: True once nothing follows.
        loop: the event loop that it runs in.
    """

    def __init__(self, services: Services, *, streams: bool) -> None:
        self.services = services
        self.streams = streams
        self.answer = FollowedAnswer(0)
        self.told = 0.0
        self.delivered = False
        self.ended = False
        self.loop = anyio.lowlevel.current_token().native_token
        self._started = False
        self._status = 0
        self._followers = 0
        self._work: DetachableWork | None = None
        self._error: OpenAICompatError | None = None

    async def run(self, exchange: Exchange, work: Callable[[], Awaitable[None]], grace: float) -> None:
        """Do the work of its request, also for those who ask again."""
        going_on = self._work = DetachableWork(exchange, work, grace)
        try:
            await going_on.run()
        except BaseException:
            if self._followers:  # its own client has left, others have not
                going_on.come_back()
            raise

    async def make(self, exchange: Exchange, answer: Callable[[], Awaitable[None]]) -> None:
        """Make the answer, and a copy of it."""
        if exchange.recording is not None:  # its failure is to be kept for others, too
            self.answer.left = exchange.recording.left
        exchange.recording = self.answer
        try:
            await answer()
        except OpenAICompatError as error:
            self._error = error
            raise
        finally:
            self._started, self._status = exchange.agent_started, exchange.status
            self.told = time.monotonic()
            self.delivered = exchange.complete and not exchange.detached
            self.ended = True
            self._work = None  # it has the whole request
            self.answer.log.end()

    def is_worth_keeping(self, exchange: Exchange) -> bool:
        """False if the request may run again: no agent was started, or it was stopped since nobody waited for it."""
        if not self._started or (self._error is not None and self._error.should_retry is True):
            return False
        return exchange.failed if exchange.status >= 400 else self._error is not None or exchange.complete

    async def tell(self, exchange: Exchange, asked: AskedFor, form: MessageForm) -> None:
        """Answer another request for it, from the beginning or after what has survived."""
        self._followers += 1
        if self._work is not None:
            self._work.come_back()
        exchange.about.append(REPLAYED)
        try:
            rest = RestOfAnswer(asked.survived, form.id) if asked.survived else None
            told: list[bytes] = []
            async for frames, _ in self.answer.log.follow(-1, self.services.settings.deadlines.heartbeat):
                shown = frames if rest is None else rest.feed(frames)
                if not form.streams:
                    told.append(shown)
                    continue
                # No head before that: until there is something to read, an error can have its own status.
                await exchange.write(shown or PING)
            await self._end(exchange, b"".join(told), streams=form.streams)
            self.told, self.delivered = time.monotonic(), True
        finally:
            self._followers -= 1
            if self._work is not None and self._work.alone and not self._followers:
                self._work.leave()

    async def _end(self, exchange: Exchange, frames: bytes, *, streams: bool) -> None:
        """The end of a stream, or the whole answer. Raises what the turn has failed with."""
        exchange.agent_started = self._started
        if self._error is not None:
            raise self._error
        if self.answer.too_long or not self.answer.complete:
            text = "The answer was lost with its connection: it was too long to be kept, or was stopped."
            raise Conflict(text, code="answer_lost", should_retry=False)
        if self.answer.whole:  # also of a stream that failed before it had begun
            await exchange.repeat(self._status, self.answer.headers, self.answer.whole)
        elif streams:
            await exchange.end()
        else:
            good, body = whole_answer(frames)
            await exchange.answer(200 if good else 500, body, *([] if good else [("X-Should-Retry", "false")]))


class SentTurns:
    """The turns of this process that Claude Code may ask for again.

    Attributes:
        seconds: how long an agent goes on whose client has left, and for how long after the end of an answer the same
            request is no new one; 0 for neither.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._turns: dict[SentKey, SentTurn] = {}

    async def asked(
        self, exchange: Exchange, session: str, parsed: ParsedMessages, *, long: bool
    ) -> tuple[SentKey, AskedFor] | None:
        """What a request of Claude Code's asks for; None if it says by itself what it is a repetition of."""
        http = exchange.request
        if not self.seconds or parsed.thread is not None or http.header(b"idempotency-key") is not None:
            return None
        asked = await off_loop(asked_for, parsed.body, long=long)
        return SentKey(exchange.principal.id, session, http.header(BESIDE) or "", asked.digest), asked

    def find(self, services: Services, key: SentKey, *, streams: bool) -> SentTurn | None:
        """The turn that such a request is answered from. None if it is a new one."""
        self._forget()
        turn = self._turns.get(key)
        if turn is None or turn.services is not services or (streams and not turn.streams):
            return None
        return turn if turn.ended or turn.loop == anyio.lowlevel.current_token().native_token else None

    async def run(
        self,
        key: SentKey,
        services: Services,
        exchange: Exchange,
        body: bytes,
        answer: Callable[[], Awaitable[None]],
        *,
        streams: bool,
    ) -> None:
        """Answer a new request, so that others can ask for the answer again."""
        turn = self._turns[key] = SentTurn(services, streams=streams)
        making = run_once(services, exchange, body, lambda: turn.make(exchange, answer), ONCE)
        del body  # or it would be kept for as long as a stream lasts

        async def work() -> None:
            try:
                await making
            finally:
                if self._turns.get(key) is turn and not turn.is_worth_keeping(exchange):
                    del self._turns[key]

        policy = services.settings.disconnect
        grace = {"cancel": self.seconds, "detach": policy.grace, "finish": math.inf}[policy.then]
        await turn.run(exchange, work, grace)

    def _forget(self) -> None:
        """Drop what nobody asks for any more, and the oldest of what is too much."""
        now, size = self._clock(), 0
        for key, turn in reversed(list(self._turns.items())):
            if not turn.ended:
                continue
            size += turn.answer.size
            if size > MOST_KEPT or now - turn.told > (self.seconds if turn.delivered else UNDELIVERED):
                del self._turns[key]
