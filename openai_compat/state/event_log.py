"""Event logs: the frames of a running response, for its readers in this process, and their copy in the store.

A log is a sequence of frames (`event: …`, `data: …`, blank line), numbered from 0 without a gap. The copy is written
in batches, one append for all logs of a process. A log ends with the frame of an outcome.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import anyio
import anyio.lowlevel

from ..aio.background import Failure, spawn
from ..aio.timers import WakeEvent, asyncio_loop, new_wake_event
from ..errors import Conflict, Unavailable
from ..stores.port import LOG_BYTES, Events, Key, ResponseStatus, Store, StoredResponse

logger = logging.getLogger("openai_compat")

# Followers in other processes lag by this much; a commit for each frame would be most of the store's load.
PAUSE = 0.3
"""Seconds between two appends, each with the frames of all logs of a process."""

FLUSH_SIZE = 256 * 1024
"""Unwritten bytes of a log above which it does not wait for PAUSE."""

MAX_APPEND_SIZE = 4 * 1024 * 1024
"""Bytes after which an append takes no further log, so that commits of turns get their share of the store."""

MAX_AHEAD = 20_000
"""Number of frames by which a log may be ahead of its copy before the answer waits for the store."""


class _Frames(NamedTuple):
    first: int
    last: int
    data: bytes


class EventLog:
    """The frames of a running response: all frames that are not stored yet, and the latest stored ones.

    Attributes:
        last: the number of the last frame; -1 before the first one.
        unwritten_size: bytes that are not stored yet.
        ended: True if no frames follow.
    """

    def __init__(self) -> None:
        self.last = -1
        self.unwritten_size = 0
        self.ended = False
        self._batches: list[_Frames] = []
        self._written = 0
        self._last_written = -1
        self._size = 0
        self._followers: list[WakeEvent] = []

    def add(self, frames: bytes, last: int) -> None:
        """Add frames; `last` is the number of the last one."""
        self._batches.append(_Frames(self.last + 1, last, frames))
        self.last = last
        self._size += len(frames)
        self.unwritten_size += len(frames)
        self._drop_oldest()
        self._wake()

    def end(self) -> None:
        """End the log: no frames follow."""
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        for follower in self._followers:
            follower.set()

    @property
    def unwritten(self) -> int:
        """Number of frames that are not stored yet."""
        return self.last - self._last_written

    @property
    def is_far_ahead(self) -> bool:
        """True if the answer must wait for the store."""
        return self.unwritten >= MAX_AHEAD or self.is_too_far_ahead

    @property
    def is_too_far_ahead(self) -> bool:
        """True if the unwritten frames fill this process's share of memory."""
        return self.unwritten_size >= LOG_BYTES

    def unwritten_batch(self) -> Events | None:
        """All frames that are not stored yet, or None. Call `mark_written` once they are stored."""
        waiting = self._batches[self._written :]  # earlier ones stay for readers in this process
        return Events(waiting[0].first, waiting[-1].last, _join_batches(waiting)) if waiting else None

    def mark_written(self, batch: Events) -> None:
        """Mark a batch as stored."""
        while self._written < len(self._batches) and self._batches[self._written].last <= batch.last:
            self.unwritten_size -= len(self._batches[self._written].data)
            self._written += 1
        self._last_written = batch.last
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Drop the oldest written frames if the log is too large."""
        if self._size <= LOG_BYTES:
            return
        # Only stored frames: even the first frame is read again, by the SDK's `responses.stream(response_id=…)`.
        dropped = 0
        # An eighth more than needed, so that not every following frame drops one.
        while self._size > LOG_BYTES - LOG_BYTES // 8 and dropped < self._written - 1:
            self._size -= len(self._batches[dropped].data)
            dropped += 1
        del self._batches[:dropped]
        self._written -= dropped

    async def follow(self, after: int, heartbeat: float = math.inf) -> AsyncIterator[tuple[bytes, int]]:
        """Yield the frames after number `after` as they arrive, with the number of the last one.

        Yields no frames, with the same number, after each `heartbeat` seconds of silence. Ends with the log, or when the next
        frames were dropped and must be read from the store.
        """
        woken, silent_since = new_wake_event(asyncio_loop()), anyio.current_time()
        self._followers.append(woken)
        try:
            while True:
                waiting = self._batches_after(after)
                if waiting and waiting[0].first > after + 1:
                    return
                if waiting:
                    yield _skip_frames(_join_batches(waiting), waiting[0].first, after), waiting[-1].last
                    after, silent_since = waiting[-1].last, anyio.current_time()
                elif self.ended:
                    return
                elif silent_since + heartbeat > anyio.current_time():
                    await woken.wait(silent_since + heartbeat)
                else:
                    yield b"", after
                    silent_since = anyio.current_time()
        finally:
            self._followers.remove(woken)
            woken.close()

    def _batches_after(self, after: int) -> list[_Frames]:
        """The batches with frames numbered above `after`."""
        start = len(self._batches)
        while start and self._batches[start - 1].last > after:  # from the end: nearly always there is only one
            start -= 1
        return self._batches[start:]


def _join_batches(batches: Sequence[_Frames]) -> bytes:
    return batches[0].data if len(batches) == 1 else b"".join([batch.data for batch in batches])


def frames_after(events: Events, after: int) -> bytes:
    """The frames of a batch with numbers above `after`."""
    return _skip_frames(events.body, events.first, after)


def _skip_frames(data: bytes, first: int, after: int) -> bytes:
    # No frame contains a blank line.
    return data if after < first else b"\n\n".join(data.split(b"\n\n")[after + 1 - first :])


@dataclass(frozen=True, slots=True)
class EventLogs:
    """The logs of this process's running answers.

    Attributes:
        store: stores the copies.
        lease: seconds after which an answer of a dead process counts as lost.
        live: the logs that can be read here, by principal and the answer's id.
        copiers: the copier of each event loop that has logs to copy.
    """

    store: Store
    lease: float
    live: dict[Key, EventLog] = field(default_factory=dict[Key, EventLog])
    copiers: dict[object, Copier] = field(default_factory=dict[object, "Copier"])

    def schedule_copy(self, writer: EventLogWriter) -> Copier:
        """Schedule copying a log's new frames to the store. Return the copier."""
        loop = anyio.lowlevel.current_token().native_token
        copier = self.copiers.get(loop)
        if copier is not None:
            copier.add(writer)
            return copier
        self.copiers[loop] = copier = Copier(self.store)
        copier.add(writer)
        spawn(copier.run, "event logs", lambda: self.copiers.pop(loop))
        return copier


class Copier:
    """Copies the new frames of all logs of an event loop to the store: one append for all of them, then a pause."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[EventLogWriter, None] = {}
        self._appending: Sequence[EventLogWriter] = ()
        self._appended = anyio.Event()
        self._full = anyio.Event()

    def add(self, writer: EventLogWriter) -> None:
        """Include a log in the next append. A log with many unwritten frames does not wait for the end of the pause."""
        self._waiting[writer] = None
        if writer.log.unwritten_size >= FLUSH_SIZE or writer.log.is_far_ahead:
            self._full.set()

    def is_waiting(self, writer: EventLogWriter) -> bool:
        """True if the next append includes this log's new frames."""
        return writer in self._waiting

    async def wait_for_append(self) -> None:
        """Wait for the end of an append."""
        await self._appended.wait()

    async def remove(self, writer: EventLogWriter) -> None:
        """Stop copying a log. Returns once no running append contains its frames."""
        self._waiting.pop(writer, None)
        while writer in self._appending:
            await self._appended.wait()

    async def run(self) -> None:
        """Copy until a pause brings nothing new. The first append begins at once."""
        while self._waiting:
            self._full = anyio.Event()
            self._appending = self._next_writers()
            if self._waiting:  # more than fits into one append
                self._full.set()
            try:
                await self._append(self._appending)
            finally:
                self._appending = ()
                self._appended.set()
                self._appended = anyio.Event()
            with anyio.move_on_after(PAUSE):
                await self._full.wait()

    def _next_writers(self) -> Sequence[EventLogWriter]:
        """Take the logs that have waited longest."""
        writers: list[EventLogWriter] = []
        size = 0
        while self._waiting and size < MAX_APPEND_SIZE:
            writer = next(iter(self._waiting))
            del self._waiting[writer]
            writers.append(writer)
            size += writer.log.unwritten_size
        return writers

    async def _append(self, writers: Sequence[EventLogWriter]) -> None:
        batches = [(writer, batch) for writer in writers if (batch := writer.log.unwritten_batch()) is not None]
        try:
            held = await self._store.append([(writer.key, writer.token, batch) for writer, batch in batches])
        except Unavailable as error:
            for writer, _ in batches:
                writer.on_copy_failed(error)
        except Exception as error:
            if len(batches) == 1:
                batches[0][0].fail(error)
            else:  # one log's error must not end other answers
                for writer, _ in batches:
                    await self._append([writer])
        else:
            for writer, batch in batches:
                writer.on_copied(batch, held=writer.token in held)


class EventLogWriter:
    """Writes the log of one answer, which `token` holds in the store. Call `begin` first.

    `sequence` returns the number that the last recorded frame contains. Without it, frames contain no numbers, and each gets
    its number as an `id:` line, with which clients can resume the stream.
    """

    def __init__(
        self, logs: EventLogs, key: Key, token: str, request_id: str, sequence: Callable[[], int] | None = None
    ) -> None:
        self.log = EventLog()
        self.key = key
        self.token = token
        self.ids = sequence is None
        self._sequence = sequence
        self._logs = logs
        self._response: StoredResponse | None = None
        self._request_id = request_id
        self._name = key.id.encode()
        self._copier: Copier | None = None
        self._reached = True
        self._failure = Failure()

    async def begin(self, response: StoredResponse) -> None:
        """Insert the answer into the store, before its agent starts."""
        self._response = response
        await self._logs.store.begin_response(self.key.principal, response, self.token, self._logs.lease)

    def record(self, frames: bytes) -> bytes:
        """Add frames to the log. Return them as they are sent to the client."""
        if not frames:
            return frames
        numbered, last = self._number_frames(frames)
        self.log.add(numbered, last)
        return numbered

    def _number_frames(self, frames: bytes) -> tuple[bytes, int]:
        """The frames, with `id:` lines if clients get them, and the number of the last one."""
        first = self.log.last + 1
        if self._sequence is not None:  # counting frames would be a seventh of a short one's cost
            return frames, self._sequence()
        pieces = frames.split(b"\n\n")[:-1]
        lines = [b"id: %b:%d\n%b\n\n" % (self._name, number, piece) for number, piece in enumerate(pieces, first)]
        return b"".join(lines), first + len(pieces) - 1

    @property
    def due(self) -> float:
        """The time (of the event loop) when `flush` has work to do: now, or at the next frames."""
        waiting = self._copier is not None and self._copier.is_waiting(self)
        return -math.inf if self._failure or self._has_to_wait or (self.log.unwritten and not waiting) else math.inf

    @property
    def must_flush(self) -> bool:
        """True if `flush` must be called before more is sent: many frames are unwritten, or the store has a problem."""
        much = self.log.unwritten_size >= FLUSH_SIZE or self._has_to_wait
        return much or not self._reached or bool(self._failure)

    @property
    def _has_to_wait(self) -> bool:
        return self._reached and self.log.is_far_ahead

    async def flush(self) -> None:
        """Schedule copying the new frames to the store. The answer continues meanwhile.

        The answer waits for a store that is far behind, but not for one that is unavailable, which may be back before the lease
        expires. Raises Conflict `turn_lost`, and Unavailable if the unwritten frames become too many.
        """
        if self.log.unwritten:
            self._copier = self._logs.schedule_copy(self)
        while self._copier is not None and self._has_to_wait and not self._failure:
            self._copier = self._logs.schedule_copy(self)
            await self._copier.wait_for_append()
        if not self._reached and self.log.is_too_far_ahead:
            raise Unavailable("The events of this answer cannot be kept.", code="store_unavailable", should_retry=False)
        self._failure.raise_if_any()

    def on_copied(self, batch: Events, *, held: bool) -> None:
        """Mark a batch as stored or, if the answer is no longer `held`, fail with `turn_lost`."""
        if held:
            self._reached = True
            self.log.mark_written(batch)
        else:
            self.fail(Conflict("Another process has taken this response.", code="turn_lost", should_retry=False))

    def on_copy_failed(self, error: Unavailable) -> None:
        """Record that the store was unavailable."""
        self._reached = False
        logger.warning("%s: the event log could not be written: %s", self._request_id, error.code)

    def fail(self, error: Exception) -> None:
        """Store an error for the next `flush` to raise."""
        self._failure.keep(error)

    def response_with_status(self, status: ResponseStatus) -> StoredResponse:
        """The answer as `begin` inserted it, with its outcome."""
        if self._response is None:
            raise RuntimeError("the event log was not begun")
        return replace(self._response, status=status)

    async def final_batch(self, frames: bytes) -> Events:
        """All frames that are not stored yet, followed by `frames`, for the commit to write. No batch follows."""
        numbered, last = self._number_frames(frames)
        first = self.log.last + 1
        if self._copier is not None:
            await self._copier.remove(self)  # otherwise a running append would be written twice
        waiting = self.log.unwritten_batch()
        if waiting is None:
            return Events(first, last, numbered)
        return Events(waiting.first, last, waiting.body + numbered)
