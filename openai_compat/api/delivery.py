"""Where the answers of turns go over HTTP, beside a stream to the client, which the exchange is itself."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from ..errors import OpenAICompatError
from ..state.event_log import EventLogWriter
from ..wire.json import KEEP_ALIVE_BESIDE_IDS
from .answer_form import SSE
from .exchange import Exchange


class WholeAnswer:
    """One body of JSON, once the turn is over."""

    due = math.inf

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def write_now(self, frames: bytes) -> bool:
        """Nothing is sent before the end."""
        return True

    def started(self) -> None:
        """The agent must not be run for this request again in secret."""
        self._exchange.agent_started = True

    async def write(self, frames: bytes) -> None:
        """Nothing is sent before the end."""

    async def flush(self) -> None:
        """There is no log to be copied."""

    async def keep_alive(self) -> None:
        """Nothing can be sent before the status is known."""

    def end(self, frames: bytes) -> Awaitable[None]:
        """Send the body, with the status that is only known now."""
        return self._exchange.answer(200, frames)


class _Logged:
    """What the answers have in common that may have a log."""

    def __init__(self, exchange: Exchange, log: EventLogWriter | None = None) -> None:
        self._exchange = exchange
        self._log = log

    @property
    def due(self) -> float:
        """When the log has to be copied to the store."""
        return math.inf if self._log is None else self._log.due

    def started(self) -> None:
        """The agent must not be run for this request again in secret."""
        self._exchange.agent_started = True

    async def flush(self) -> None:
        """Copy the log to the store."""
        if self._log is not None:
            await self._log.flush()

    def _recorded(self, frames: bytes) -> bytes:
        """The frames, numbered where the log does that."""
        return frames if self._log is None else self._log.record(frames)


class StreamedAnswer(_Logged):
    """Server-sent events of which a log keeps a copy, with numbers; or those that an end mark follows."""

    def __init__(self, exchange: Exchange, log: EventLogWriter | None = None, end_mark: bytes = b"") -> None:
        super().__init__(exchange, log)
        beside_ids = log is not None and log.ids and exchange.framing is SSE
        self._comment = KEEP_ALIVE_BESIDE_IDS if beside_ids else exchange.framing.keep_alive
        self._end_mark = end_mark

    @property
    def write_now(self) -> Callable[[bytes], bool] | None:
        """Sends events, where the transport lets one see that it can do so at once."""
        send_now = self._exchange.write_now
        return send_now if send_now is None or self._log is None else self._record_now

    def _record_now(self, frames: bytes) -> bool:
        # The store, or the client, may have to be waited for.
        if self._log is None or self._log.full or not self._exchange.can_send_now:
            return False
        return self._exchange.send_now(self._log.record(frames))

    async def write(self, frames: bytes) -> None:
        """Send events, after the head if they are the first."""
        await self._exchange.write(self._recorded(frames))
        if self._log is not None:
            await self._log.flush()

    async def keep_alive(self) -> None:
        """Send bytes that clients skip: a comment, in a stream of events."""
        if self._comment:
            await self._exchange.write(self._comment)

    async def end(self, frames: bytes) -> None:
        """Send the last events and the end mark."""
        await self._exchange.end(self._recorded(frames) + self._end_mark)

    async def fail(self, error: OpenAICompatError, frames: bytes) -> None:
        """The last events of a stream that failed. Raises `error` if nothing was written before: it has a status."""
        frames = self._recorded(frames)
        if not self._exchange.status:
            raise error  # on a real status, SDKs raise the right exception
        self._exchange.has_failed(error)
        await self._exchange.end(frames + self._end_mark)


class NoAnswer(_Logged):
    """For turns whose client waits for their outcome, or for nothing. The log, if there is one, has all events.

    Attributes:
        error: what the turn failed with.
    """

    error: OpenAICompatError | None = None

    def write_now(self, frames: bytes) -> bool:
        """Keep the events in the log. It is copied to the store when that is due, or when there is a batch."""
        if self._log is not None and self._log.full:
            return False
        self._recorded(frames)
        return True

    async def write(self, frames: bytes) -> None:
        """Keep the events in the log alone."""
        if self._log is not None:
            self._log.record(frames)
            await self._log.flush()

    async def keep_alive(self) -> None:
        """No connection has to be kept open."""

    async def end(self, frames: bytes) -> None:
        """Keep the last events in the log."""
        self._recorded(frames)

    async def fail(self, error: OpenAICompatError, frames: bytes) -> None:
        """Keep the error, and its events."""
        self._recorded(frames)
        self.error = error
