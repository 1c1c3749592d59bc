"""An answer that others may follow while it is made: its frames at hand in this process, and copied to the store."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeAlias

import anyio

from ..errors import Conflict, Unavailable
from ..eventlog import BATCH, PAUSE, EventLog, joined
from ..runtime import Runtime, logger
from ..stores.port import Events, Key, ResponseStatus, StoredResponse

Ending: TypeAlias = tuple[StoredResponse, Events]


class Journal:
    """The log of one answer, which `token` holds in the store. `begin` comes first."""

    def __init__(self, runtime: Runtime, key: Key, token: str, request_id: str) -> None:
        self.log = EventLog()
        self._response: StoredResponse | None = None
        self._store = runtime.store
        self._lease = runtime.leases.seconds
        self._key = key
        self._token = token
        self._request_id = request_id
        self._flushed = -math.inf

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
        return self._flushed + PAUSE if self.log.unwritten else math.inf

    async def flush(self) -> None:
        """Copy what is new to the store, now and then. Raises Conflict `turn_lost`.

        While the store cannot be reached, the agent goes on: the lease may still be ours.
        """
        if self.log.unwritten >= BATCH or anyio.current_time() >= self.due:
            self._flushed = anyio.current_time()
            batch = self.log.batch()
            if batch is not None:
                await self._append(batch)

    async def _append(self, batch: Events) -> None:
        try:
            held = await self._store.append(self._key, self._token, batch)
        except Unavailable as error:
            logger.warning("%s: the event log could not be written: %s", self._request_id, error.code)
            return
        if not held:
            raise Conflict("Another process has taken this response.", code="turn_lost", should_retry=False)
        self.log.written(batch)

    def ending(self, status: ResponseStatus, frames: bytes) -> Ending:
        """What is to be stored with the last frames, which have no numbers themselves."""
        if self._response is None:
            raise RuntimeError("the journal was not begun")
        numbered, last = self._numbered(frames)
        events = self.with_rest(Events(self.log.last + 1, last, numbered.decode()))
        return replace(self._response, status=status), events

    def with_rest(self, last: Events) -> Events:
        """The last events, with all before them that the store does not have yet."""
        waiting = self.log.batch()
        return last if waiting is None else joined([waiting, last])
