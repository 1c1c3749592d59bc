"""The stream of one response as it is made, for those who follow it, and its copy in the store.

A stream is a sequence of frames (`event: …`, `data: …`, blank line), numbered without a gap from 0. Its copy is
written in batches. It ends with the frame of an outcome.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import anyio

from .stores.port import Events

BATCH = 50
"""Frames after which a batch is written."""

AHEAD = 100 * BATCH
"""Frames by which a stream may be ahead of its copy."""

AT_ONCE = 6
"""Logs of one process that are written at once, however many there are: turns that end need the store too."""

PAUSE = 0.3
"""Seconds after which one is, if there is anything to write."""


class EventLog:
    """The frames of a response that runs in this process."""

    def __init__(self) -> None:
        self._batches: list[Events] = []
        self._written = 0
        self._more = anyio.Event()
        self.ended = False

    @property
    def last(self) -> int:
        """The number of the last frame, -1 before the first one."""
        return self._batches[-1].last if self._batches else -1

    def add(self, frames: bytes, last: int) -> None:
        """Add frames, the last of which has the number `last`."""
        self._batches.append(Events(self.last + 1, last, frames.decode()))
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

    def batch(self) -> Events | None:
        """All frames that are not in the store yet, None if there are none; `written` says that they are."""
        waiting = self._batches[self._written :]
        return joined(waiting) if waiting else None

    def written(self, batch: Events) -> None:
        """This batch is in the store."""
        while self._written < len(self._batches) and self._batches[self._written].last <= batch.last:
            self._written += 1

    async def follow(self, after: int) -> AsyncIterator[bytes]:
        """The frames after number `after`, as they come, until the end."""
        position = 0
        while True:
            more = self._more
            waiting = [batch for batch in self._batches[position:] if batch.last > after]
            position = len(self._batches)
            if waiting:
                yield frames_after(joined(waiting), after)
            elif self.ended:
                return
            else:
                await more.wait()


def joined(batches: Sequence[Events]) -> Events:
    """Batches that follow on each other as one."""
    return Events(batches[0].first, batches[-1].last, "".join([batch.body for batch in batches]))


def frames_after(events: Events, after: int) -> bytes:
    """The frames of a batch whose numbers are beyond `after`. No frame has a blank line within."""
    if after < events.first:
        return events.body.encode()
    frames = events.body.split("\n\n")[after + 1 - events.first :]
    return "\n\n".join(frames).encode()
