"""The stream of one response as it is made, for those who follow it, and its copy in the store.

A stream is a sequence of frames (`event: …`, `data: …`, blank line), numbered without a gap from 0. Its copy is
written in batches. It ends with the frame of an outcome.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

import anyio

from ..aio.background import Failure, Task, spawn
from ..errors import Conflict, Unavailable
from ..stores.port import LOG_BYTES, Events, Key, ResponseStatus, Store, StoredResponse

logger = logging.getLogger("openai_compat")

BATCH = 50
"""Frames after which a batch is written."""

AHEAD = 100 * BATCH
"""Frames by which a stream may be ahead of its copy."""

AT_ONCE = 6
"""Logs of one process that are written at once, however many there are: turns that end need the store too."""

PAUSE = 0.3
"""Seconds after which one is, if there is anything to write."""


class EventLog:
    """The frames of a response that runs in this process: the last ones, and all that the store does not have yet."""

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
        """Add frames, the last of which has the number `last`."""
        batch = Events(self.last + 1, last, frames.decode())
        self._batches.append(batch)
        self._size += len(batch.body)
        self._unwritten_size += len(batch.body)
        self._forget()
        self._wake()

    def end(self) -> None:
        """Nothing more will come."""
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        self._more.set()
        self._more = anyio.Event()

    @property
    def unwritten(self) -> int:
        """How many frames are not in the store yet."""
        return self.last - (self._batches[self._written - 1].last if self._written else -1)

    @property
    def far_ahead(self) -> bool:
        """Whether so much is not in the store yet that it has to wait for it."""
        return self.unwritten >= AHEAD or self._unwritten_size >= LOG_BYTES

    @property
    def too_far_ahead(self) -> bool:
        """Whether so much is not in the store yet that no more can be kept here."""
        return self._unwritten_size >= LOG_BYTES

    def batch(self) -> Events | None:
        """All frames that are not in the store yet, None if there are none; `written` says that they are."""
        waiting = self._batches[self._written :]
        return joined(waiting) if waiting else None

    def written(self, batch: Events) -> None:
        """This batch is in the store."""
        while self._written < len(self._batches) and self._batches[self._written].last <= batch.last:
            self._unwritten_size -= len(self._batches[self._written].body)
            self._written += 1
        self._forget()

    def _forget(self) -> None:
        """Drop the oldest frames where there are too many bytes, some more at once so that it is not done each time."""
        if self._size <= LOG_BYTES:
            return
        dropped = 0
        while self._size > LOG_BYTES - LOG_BYTES // 8 and dropped < self._written - 1:
            self._size -= len(self._batches[dropped].body)
            dropped += 1
        del self._batches[:dropped]
        self._written -= dropped

    async def follow(self, after: int, heartbeat: float = math.inf) -> AsyncIterator[tuple[bytes, int]]:
        """The frames after number `after`, as they come, each time with the number of the last of them.

        Nothing, with the same number, for each `heartbeat` of silence. Until the end, or until frames are wanted that
        are not at hand any more.
        """
        while True:
            more = self._more
            waiting = self._batches[bisect_right(self._batches, after, key=_last) :]
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


def _last(batch: Events) -> int:
    return batch.last


def joined(batches: Sequence[Events]) -> Events:
    """Batches that follow on each other as one."""
    return Events(batches[0].first, batches[-1].last, "".join([batch.body for batch in batches]))


def frames_after(events: Events, after: int) -> bytes:
    """The frames of a batch whose numbers are beyond `after`. No frame has a blank line within."""
    if after < events.first:
        return events.body.encode()
    frames = events.body.split("\n\n")[after + 1 - events.first :]
    return "\n\n".join(frames).encode()


@dataclass(frozen=True, slots=True)
class EventLogs:
    """The logs of the answers that are made in this process.

    Attributes:
        lease: seconds after which an answer whose process has died is taken for lost.
        live: the logs that can be followed here, by whose they are and the answers' ids.
        copied: those that are being written to the store just now.
    """

    store: Store
    lease: float
    live: dict[Key, EventLog] = field(default_factory=dict[Key, EventLog])
    copied: set[Key] = field(default_factory=set[Key])


class EventLogWriter:
    """Writes the log of one answer, which `token` holds in the store. `begin` comes first.

    Others may follow the answer while it is made: its frames are at hand in this process, and copied to the store.
    With `ids`, each frame gets its number as an `id:` line, for clients that take a stream up again by it.
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

    async def begin(self, response: StoredResponse) -> None:
        """Make the answer known to the store, before its agent is started."""
        self._response = response
        await self._logs.store.begin_response(self._key.principal, response, self._token, self._logs.lease)

    def record(self, frames: bytes) -> bytes:
        """Keep frames; returns them as they are to be written."""
        if not frames:
            return frames
        numbered, last = self._numbered(frames)
        self.log.add(numbered, last)
        return numbered

    def _numbered(self, frames: bytes) -> tuple[bytes, int]:
        """The frames with their ids, if they have any, and the number of the last one."""
        first = self.log.last + 1
        if not self.ids:
            return frames, first + frames.count(b"\n\n") - 1
        pieces = frames.split(b"\n\n")[:-1]
        lines = [b"id: %b:%d\n%b\n\n" % (self._name, number, piece) for number, piece in enumerate(pieces, first)]
        return b"".join(lines), first + len(pieces) - 1

    @property
    def due(self) -> float:
        """When the store is to have a copy of what is new (the event loop's time)."""
        if not self.log.unwritten:
            return math.inf
        return PAUSE + (anyio.current_time() if self._busy else self._flushed)

    @property
    def _busy(self) -> bool:
        return self._key in self._logs.copied

    async def flush(self) -> None:
        """Have what is new copied to the store, now and then, while the answer goes on.

        An answer waits for a store that is far behind, but not for one that cannot be reached: its lease may still be
        held. Raises Conflict `turn_lost`, and Unavailable where more waits for such a store than can be kept here.
        """
        if self._reached and self.log.far_ahead:
            await self._settle()
        if not self._reached and self.log.too_far_ahead:
            raise Unavailable("The events of this answer cannot be kept.", code="store_unavailable", should_retry=False)
        self._failure.raise_if_any()
        full = self._reached and (self.log.unwritten >= BATCH or self.log.far_ahead)
        if self._busy or not (full or anyio.current_time() >= self.due):
            return
        self._flushed = anyio.current_time()
        if len(self._logs.copied) < AT_ONCE:
            self._logs.copied.add(self._key)
            self._copying = spawn(self._copy, f"event log {self._key.id}", self._over)

    async def _settle(self) -> None:
        if self._copying is not None:
            await self._copying.wait()

    async def _copy(self) -> None:
        """The task that copies one batch."""
        batch = self.log.batch()
        try:
            if batch is not None:
                await self._append(batch)
        except Unavailable as error:
            self._reached = False
            logger.warning("%s: the event log could not be written: %s", self._request_id, error.code)
        except Exception as error:
            self._failure.keep(error)

    def _over(self) -> None:
        self._logs.copied.discard(self._key)

    async def _append(self, batch: Events) -> None:
        if not await self._logs.store.append(self._key, self._token, batch):
            raise Conflict("Another process has taken this response.", code="turn_lost", should_retry=False)
        self._reached = True
        self.log.written(batch)

    def ended(self, status: ResponseStatus) -> StoredResponse:
        """The answer that was made known, with its outcome."""
        if self._response is None:
            raise RuntimeError("the event log was not begun")
        return replace(self._response, status=status)

    async def rest(self, frames: bytes) -> Events:
        """What the store does not have yet, with the last frames, which are not recorded yet. Nothing is written then.

        The log is whole once these are in the store; what comes after them is not kept.
        """
        numbered, last = self._numbered(frames)
        events = Events(self.log.last + 1, last, numbered.decode())
        await self._settle()
        waiting = self.log.batch()
        return events if waiting is None else joined([waiting, events])
