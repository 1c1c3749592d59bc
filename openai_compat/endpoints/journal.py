"""An answer that others may follow while it is made: its frames at hand in this process, and copied to the store."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeAlias

import anyio

from ..errors import Conflict, Unavailable
from ..eventlog import AT_ONCE, BATCH, PAUSE, EventLog, joined
from ..runtime import Runtime, logger
from ..stores.port import Events, Key, ResponseStatus, StoredResponse
from ..tasks import Failure, Task, spawn

Ending: TypeAlias = tuple[StoredResponse, Events]


class Journal:
    """The log of one answer, which `token` holds in the store. `begin` comes first."""

    def __init__(self, runtime: Runtime, key: Key, token: str, request_id: str) -> None:
        self.log = EventLog()
        self._response: StoredResponse | None = None
        self._store = runtime.store
        self._lease = runtime.leases.seconds
        self._copied = runtime.copied
        self._key = key
        self._token = token
        self._request_id = request_id
        self._flushed = -math.inf
        self._copying: Task | None = None
        self._reached = True
        self._failure = Failure()

    async def begin(self, response: StoredResponse) -> None:
        """Make the answer known to the store, before its agent is started."""
        self._response = response
        await self._store.begin_response(self._key.principal, response, self._token, self._lease)

    def add(self, frames: bytes, last: int) -> None:
        """Keep frames, the last of which has the number `last`."""
        self.log.add(frames, last)

    def number(self, frames: bytes) -> bytes:
        """Keep frames that have no numbers themselves; returns them with their numbers as `id:` lines."""
        if not frames:
            return frames
        numbered, last = self._numbered(frames)
        self.log.add(numbered, last)
        return numbered

    def _numbered(self, frames: bytes) -> tuple[bytes, int]:
        name, first, pieces = self._key.id.encode(), self.log.last + 1, frames.split(b"\n\n")[:-1]
        lines = [b"id: %b:%d\n%b\n\n" % (name, number, piece) for number, piece in enumerate(pieces, first)]
        return b"".join(lines), first + len(pieces) - 1

    @property
    def due(self) -> float:
        """When the store is to have a copy of what is new (the event loop's time)."""
        if not self.log.unwritten:
            return math.inf
        return PAUSE + (anyio.current_time() if self._busy else self._flushed)

    @property
    def _busy(self) -> bool:
        return self._key in self._copied

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
        if len(self._copied) < AT_ONCE:
            self._copied.add(self._key)
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
        self._copied.discard(self._key)

    async def _append(self, batch: Events) -> None:
        if not await self._store.append(self._key, self._token, batch):
            raise Conflict("Another process has taken this response.", code="turn_lost", should_retry=False)
        self._reached = True
        self.log.written(batch)

    async def ending(self, status: ResponseStatus, frames: bytes) -> Ending:
        """What is to be stored with the last frames, which have no numbers themselves."""
        if self._response is None:
            raise RuntimeError("the journal was not begun")
        numbered, last = self._numbered(frames)
        events = await self.with_rest(Events(self.log.last + 1, last, numbered.decode()))
        return replace(self._response, status=status), events

    async def with_rest(self, last: Events) -> Events:
        """The last events, with all before them that the store does not have yet. Nothing is being written then."""
        await self._settle()
        waiting = self.log.batch()
        return last if waiting is None else joined([waiting, last])
