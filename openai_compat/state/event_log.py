"""Event logs: the frames of a running response, for its readers in this process, and their copy in the store.

A log is a sequence of frames (`event: …`, `data: …`, blank line), numbered from 0 without a gap. The copy is written
in batches. A log ends with the frame of an outcome.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

import anyio

from ..aio.background import Failure, Task, spawn
from ..aio.timers import clock
from ..errors import Conflict, Unavailable
from ..stores.port import LOG_BYTES, Events, Key, ResponseStatus, Store, StoredResponse

logger = logging.getLogger("openai_compat")

BATCH = 50
"""Frames after which a batch is written."""

AHEAD = 100 * BATCH
"""Frames by which a log may be ahead of its copy before the answer waits for the store."""

AT_ONCE = 6
"""Logs of one process that are written at the same time, so that commits of turns get their share of the store."""

PAUSE = 0.3
"""Seconds after which a batch is written, however small."""


class EventLog:
    """The frames of a running response: all that are not in the store yet, and the latest of the others."""

    def __init__(self) -> None:
        self._batches: list[Events] = []
        self._written = 0
        self._size = 0
        self._unwritten_size = 0
        self._more = anyio.Event()
        self.ended = False

    @property
    def last(self) -> int:
        """The number of the last frame, -1 before the first one."""
        return self._batches[-1].last if self._batches else -1

    def add(self, frames: bytes, last: int) -> None:
        """Add frames; `last` is the number of the last one."""
        batch = Events(self.last + 1, last, frames.decode())
        self._batches.append(batch)
        self._size += len(batch.body)
        self._unwritten_size += len(batch.body)
        self._forget()
        self._wake()

    def end(self) -> None:
        """End the log: no frames follow."""
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        self._more.set()  # every reader waits for the event that it found, so all of them wake
        self._more = anyio.Event()

    @property
    def unwritten(self) -> int:
        """Number of frames that are not in the store yet."""
        return self.last - (self._batches[self._written - 1].last if self._written else -1)

    @property
    def far_ahead(self) -> bool:
        """Whether the answer has to wait for the store."""
        return self.unwritten >= AHEAD or self._unwritten_size >= LOG_BYTES

    @property
    def too_far_ahead(self) -> bool:
        """Whether the unwritten frames fill this process's share of memory."""
        return self._unwritten_size >= LOG_BYTES

    def batch(self) -> Events | None:
        """All frames that are not in the store yet, or None. Report them with `written` once they are."""
        waiting = self._batches[self._written :]  # those before stay for readers in this process
        return joined(waiting) if waiting else None

    def written(self, batch: Events) -> None:
        """Note that a batch is in the store."""
        while self._written < len(self._batches) and self._batches[self._written].last <= batch.last:
            self._unwritten_size -= len(self._batches[self._written].body)
            self._written += 1
        self._forget()

    def _forget(self) -> None:
        """Drop the oldest written frames if the log is too large."""
        if self._size <= LOG_BYTES:
            return
        # Only what the store has: even the first frame is read again, by the SDK's `responses.stream(response_id=…)`.
        dropped = 0
        # An eighth more than needed, so that not every frame from now on drops one.
        while self._size > LOG_BYTES - LOG_BYTES // 8 and dropped < self._written - 1:
            self._size -= len(self._batches[dropped].body)
            dropped += 1
        del self._batches[:dropped]
        self._written -= dropped

    async def follow(self, after: int, heartbeat: float = math.inf) -> AsyncIterator[tuple[bytes, int]]:
        """Yield the frames after number `after` as they come, with the number of the last one.

        Yields no frames, with the same number, after each `heartbeat` seconds of silence. Ends with the log, or where
        the next frames were dropped and have to be read from the store.
        """
        while True:
            more = self._more  # before the look at the batches: one that comes in between must not be missed
            waiting = self._batches[bisect_right(self._batches, after, key=lambda batch: batch.last) :]
            if waiting and waiting[0].first > after + 1:
                return
            if waiting:
                yield frames_after(joined(waiting), after), waiting[-1].last
                after = waiting[-1].last
            elif self.ended:
                return
            else:
                with anyio.move_on_after(heartbeat):
                    await more.wait()
                    continue
                yield b"", after


def joined(batches: Sequence[Events]) -> Events:
    """Join batches that follow each other without a gap."""
    return Events(batches[0].first, batches[-1].last, "".join([batch.body for batch in batches]))


def frames_after(events: Events, after: int) -> bytes:
    """The frames of a batch with numbers beyond `after`."""
    if after < events.first:
        return events.body.encode()
    # No frame has a blank line within.
    frames = events.body.split("\n\n")[after + 1 - events.first :]
    return "\n\n".join(frames).encode()


@dataclass(frozen=True, slots=True)
class EventLogs:
    """The logs of this process's running answers.

    Attributes:
        store: keeps the copies.
        lease: seconds after which an answer of a dead process counts as lost.
        live: the logs that can be read here, by principal and the answer's id.
        copied: the logs that are being written to the store.
    """

    store: Store
    lease: float
    live: dict[Key, EventLog] = field(default_factory=dict[Key, EventLog])
    copied: set[Key] = field(default_factory=set[Key])


class EventLogWriter:
    """Writes the log of one answer, which `token` holds in the store. Call `begin` first.

    With `ids`, each frame gets its number as an `id:` line, by which clients can resume the stream.
    """

    def __init__(self, logs: EventLogs, key: Key, token: str, request_id: str, *, ids: bool = False) -> None:
        self.log = EventLog()
        self._response: StoredResponse | None = None
        self._logs = logs
        self._key = key
        self._token = token
        self._request_id = request_id
        self.ids = ids
        self._name = key.id.encode()
        self._flushed = -math.inf
        self._copying: Task | None = None
        self._reached = True
        self._failure = Failure()
        # `due` is asked for in callbacks of the loop, too, where anyio does not know which loop runs.
        self._now = clock()

    async def begin(self, response: StoredResponse) -> None:
        """Insert the answer into the store, before its agent starts."""
        self._response = response
        await self._logs.store.begin_response(self._key.principal, response, self._token, self._logs.lease)

    def record(self, frames: bytes) -> bytes:
        """Add frames to the log. Returns them as they are sent to the client."""
        if not frames:
            return frames
        numbered, last = self._numbered(frames)
        self.log.add(numbered, last)
        return numbered

    def _numbered(self, frames: bytes) -> tuple[bytes, int]:
        """The frames, with `id:` lines if clients get them, and the number of the last one."""
        first = self.log.last + 1
        if not self.ids:
            return frames, first + frames.count(b"\n\n") - 1
        pieces = frames.split(b"\n\n")[:-1]
        lines = [b"id: %b:%d\n%b\n\n" % (self._name, number, piece) for number, piece in enumerate(pieces, first)]
        return b"".join(lines), first + len(pieces) - 1

    @property
    def due(self) -> float:
        """When the next batch is to be written (the event loop's time)."""
        if not self.log.unwritten:
            return math.inf
        # While a batch is under way no other can be written: look again after PAUSE.
        return PAUSE + (self._now() if self._busy else self._flushed)

    @property
    def full(self) -> bool:
        """True if `flush` has to be called before more is said: there is a batch, or something is wrong with the store."""
        behind = self.log.unwritten >= BATCH or self.log.far_ahead
        return behind or not self._reached or bool(self._failure)

    @property
    def _busy(self) -> bool:
        return self._key in self._logs.copied

    async def flush(self) -> None:
        """Start copying the next batch to the store if it is due. The answer goes on meanwhile.

        The answer waits for a store that is far behind, but not for one that is away: it may be back before the lease
        expires. Raises Conflict `turn_lost`, and Unavailable where the unwritten frames become too many.
        """
        if self._reached and self.log.far_ahead:
            await self._settle()
        if not self._reached and self.log.too_far_ahead:
            raise Unavailable("The events of this answer cannot be kept.", code="store_unavailable", should_retry=False)
        self._failure.raise_if_any()
        full = self._reached and (self.log.unwritten >= BATCH or self.log.far_ahead)
        if self._busy or not (full or self._now() >= self.due):
            return
        self._flushed = self._now()
        if len(self._logs.copied) < AT_ONCE:  # otherwise it is due again after PAUSE
            self._logs.copied.add(self._key)
            self._copying = spawn(self._copy, f"event log {self._key.id}", lambda: self._logs.copied.discard(self._key))

    async def _settle(self) -> None:
        if self._copying is not None:
            await self._copying.wait()

    async def _copy(self) -> None:
        """Copy one batch. An error is kept for the next `flush` to raise."""
        batch = self.log.batch()
        try:
            if batch is not None:
                await self._append(batch)
        except Unavailable as error:
            self._reached = False
            logger.warning("%s: the event log could not be written: %s", self._request_id, error.code)
        except Exception as error:
            self._failure.keep(error)

    async def _append(self, batch: Events) -> None:
        if not await self._logs.store.append(self._key, self._token, batch):
            raise Conflict("Another process has taken this response.", code="turn_lost", should_retry=False)
        self._reached = True
        self.log.written(batch)

    def ended(self, status: ResponseStatus) -> StoredResponse:
        """The answer as `begin` inserted it, with its outcome."""
        if self._response is None:
            raise RuntimeError("the event log was not begun")
        return replace(self._response, status=status)

    async def rest(self, frames: bytes) -> Events:
        """All frames that are not in the store yet, and the last ones, for the commit to write. No batch follows."""
        numbered, last = self._numbered(frames)
        events = Events(self.log.last + 1, last, numbered.decode())
        await self._settle()  # a batch that is under way would be written twice
        waiting = self.log.batch()
        return events if waiting is None else joined([waiting, events])
