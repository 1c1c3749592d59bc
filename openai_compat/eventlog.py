"""The stream of one response as it is made, for those who follow it, and its copy in the store.

A stream is a sequence of frames (`event: …`, `data: …`, blank line), numbered without a gap from 0. Its copy is
written in batches. It ends with the frame of an outcome.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence

import anyio

from .stores.port import LOG_BYTES, Events

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
