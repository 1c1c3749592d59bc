"""Threads of the chat WebSocket in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..policies.limits import LEASE
from .bounded_tables import MemoryBounds, MemoryPart
from .records import Events, Key, StoredThread


@dataclass(slots=True)
class ThreadEntry:
    """A stored thread."""

    stored: StoredThread
    touched: float
    token: str | None = None
    frames: deque[Events] = field(default_factory=deque[Events])


class MemoryThreads(MemoryPart):
    """ThreadStore in a dictionary. Not used by a server: with a store that is not shared, it buffers the frames itself."""

    def __init__(self, bounds: MemoryBounds) -> None:
        super().__init__(bounds)
        self._threads: dict[Key, ThreadEntry] = {}
        self._signals: dict[str, list[str]] = {}

    async def take_thread(self, key: Key, token: str, keep: int, lease: float = LEASE) -> StoredThread | None:
        entry = self._threads.setdefault(key, ThreadEntry(StoredThread(key.id, 0), self._clock()))
        if entry.token not in (None, token):
            return None
        entry.token, entry.touched = token, self._clock()
        entry.stored = replace(entry.stored, running=True)
        while entry.frames and entry.frames[0].last <= entry.stored.last - keep:
            entry.frames.popleft()
        return entry.stored

    async def append_frames(self, key: Key, token: str, thread: StoredThread, frames: Events | None) -> bool:
        entry = self._threads.get(key)
        if entry is None or entry.token != token:
            return False
        entry.stored, entry.touched = replace(thread, running=True), self._clock()
        if frames is not None:
            # A batch is written again if the answer to the first attempt was lost: it has the same first number.
            entry.frames = deque([*[batch for batch in entry.frames if batch.first != frames.first], frames])
        return True

    async def leave_thread(self, key: Key, token: str) -> None:
        entry = self._threads.get(key)
        if entry is not None and entry.token == token:
            entry.token, entry.touched = None, self._clock()
            entry.stored = replace(entry.stored, running=False, active="null")
        self._signals.pop(token, None)

    async def thread(self, key: Key, within: float) -> StoredThread | None:
        entry = self._threads.get(key)
        recent = entry is not None and (entry.token is not None or entry.touched > self._clock() - within)
        return entry.stored if entry is not None and recent else None

    async def threads(self, principal: str) -> Sequence[StoredThread]:
        running = [entry.stored for key, entry in self._threads.items() if key.principal == principal and entry.token]
        return sorted(running, key=lambda thread: thread.id)

    async def frames(self, key: Key, after: int) -> Sequence[Events]:
        entry = self._threads.get(key)
        return [] if entry is None else [batch for batch in entry.frames if batch.last > after]

    async def put_signal(self, key: Key, body: str) -> bool:
        entry = self._threads.get(key)
        if entry is None or entry.token is None:
            return False
        self._signals.setdefault(entry.token, []).append(body)
        return True

    async def take_signals(self, tokens: Sequence[str]) -> Sequence[tuple[str, str]]:
        return [(token, body) for token in tokens for body in self._signals.pop(token, ())]
