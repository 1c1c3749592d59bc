"""Deliveries of turns over HTTP. A stream without a log has none here: the exchange itself delivers it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from ..errors import OpenAICompatError
from ..state.event_log import EventLogWriter
from ..wire.json import KEEP_ALIVE_WITH_IDS
from .answer_form import SSE
from .exchange import Exchange


class WholeAnswer:
    """Sends one JSON body, once the turn is over."""

    due = math.inf

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def write_now(self, frames: bytes) -> bool:
        """Nothing is sent before the end."""
        return True

    def started(self) -> None:
        """Note that an agent runs for this request, so that the request is not silently run again."""
        self._exchange.agent_started = True

    async def write(self, frames: bytes) -> None:
        """Nothing is sent before the end."""

    async def flush(self) -> None:
        """Nothing: there is no log to copy."""

    async def keep_alive(self) -> None:
        """Nothing can be sent before the status is known."""

    def end(self, frames: bytes) -> Awaitable[None]:
        """Send the body, with the status that is only known now."""
        return self._exchange.answer(200, frames)


class _LoggedAnswer:
    """The common part of deliveries that may have a log."""

    def __init__(self, exchange: Exchange, log: EventLogWriter | None = None) -> None:
        self._exchange = exchange
        self._log = log

    @property
    def due(self) -> float:
        """When the log is due to be copied to the store."""
        return math.inf if self._log is None else self._log.due

    def started(self) -> None:
        """Note that an agent runs for this request, so that the request is not silently run again."""
        self._exchange.agent_started = True

    async def flush(self) -> None:
        """Copy the log to the store."""
        if self._log is not None:
            await self._log.flush()

    def _record(self, frames: bytes) -> bytes:
        """Record the frames in the log, which may number them."""
        return frames if self._log is None else self._log.record(frames)


class StreamedAnswer(_LoggedAnswer):
    """Server-sent events: with a log that keeps a copy and numbers them, or with an end mark."""

    def __init__(self, exchange: Exchange, log: EventLogWriter | None = None, end_mark: bytes = b"") -> None:
        super().__init__(exchange, log)
        beside_ids = log is not None and log.ids and exchange.framing is SSE
        self._comment = KEEP_ALIVE_WITH_IDS if beside_ids else exchange.framing.keep_alive
        self._end_mark = end_mark

    @property
    def write_now(self) -> Callable[[bytes], bool] | None:
        """Sends events without waiting; None if the transport cannot tell when that is possible."""
        send_now = self._exchange.write_now
        return send_now if send_now is None or self._log is None else self._record_and_send

    def _record_and_send(self, frames: bytes) -> bool:
        # Sending may have to wait for the store, or for the client.
        if self._log is None or self._log.must_flush or not self._exchange.can_send_now:
            return False
        return self._exchange.send_now(self._log.record(frames))

    async def write(self, frames: bytes) -> None:
        """Send events, after the head if they are the first."""
        await self._exchange.write(self._record(frames))
        if self._log is not None:
            await self._log.flush()

    async def keep_alive(self) -> None:
        """Send bytes that clients ignore: a comment, in a stream of events."""
        if self._comment:
            await self._exchange.write(self._comment)

    async def end(self, frames: bytes) -> None:
        """Send the last events and the end mark."""
        await self._exchange.end(self._record(frames) + self._end_mark)

    async def fail(self, error: OpenAICompatError, frames: bytes) -> None:
        """Send the last events of a stream that failed. Raises `error` if nothing was sent before: it has a status."""
        frames = self._record(frames)
        if not self._exchange.status:
            raise error  # on a real status, SDKs raise the right exception
        self._exchange.has_failed(error)
        await self._exchange.end(frames + self._end_mark)


class NoAnswer(_LoggedAnswer):
    """For turns whose client waits for the outcome only, or for nothing. The log, if there is one, gets all events.

    Attributes:
        error: the error that the turn failed with.
    """

    error: OpenAICompatError | None = None

    def write_now(self, frames: bytes) -> bool:
        """Record the events in the log, which is copied to the store when due or when a batch is full."""
        if self._log is not None and self._log.must_flush:
            return False
        self._record(frames)
        return True

    async def write(self, frames: bytes) -> None:
        """Record the events in the log only."""
        if self._log is not None:
            self._log.record(frames)
            await self._log.flush()

    async def keep_alive(self) -> None:
        """Nothing: there is no connection to keep open."""

    async def end(self, frames: bytes) -> None:
        """Record the last events in the log."""
        self._record(frames)

    async def fail(self, error: OpenAICompatError, frames: bytes) -> None:
        """Keep the error, and record its events."""
        self._record(frames)
        self.error = error
