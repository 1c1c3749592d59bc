"""Threads of the chat WebSocket in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..policies.limits import LEASE
from .bounded_tables import MemoryBounds, MemoryPart
from .records import Events, Key, StoredThread


@dataclass(slots=True)
class KeptThread:
    """A stored thread."""

    stored: StoredThread
    touched: float
    token: str | None = None
    frames: deque[Events] = field(default_factory=deque[Events])


class MemoryThreads(MemoryPart):
    """ThreadStore in a dictionary. Not used by a server: with a store that is not shared, it buffers the frames itself."""

    def __init__(self, bounds: MemoryBounds) -> None:
        super().__init__(bounds)
        self._threads: dict[Key, KeptThread] = {}
        self._signals: dict[str, list[str]] = {}

    async def take_thread(self, key: Key, token: str, keep: int, lease: float = LEASE) -> StoredThread | None:
        kept = self._threads.setdefault(key, KeptThread(StoredThread(key.id, 0), self._clock()))
        if kept.token not in (None, token):
            return None
        kept.token, kept.touched = token, self._clock()
        kept.stored = replace(kept.stored, running=True)
        while kept.frames and kept.frames[0].last <= kept.stored.last - keep:
            kept.frames.popleft()
        return kept.stored

    async def append_frames(self, key: Key, token: str, thread: StoredThread, frames: Events | None) -> bool:
        kept = self._threads.get(key)
        if kept is None or kept.token != token:
            return False
        kept.stored, kept.touched = replace(thread, running=True), self._clock()
        if frames is not None:
            # A batch is written again if the answer to the first attempt was lost: it has the same first number.
            kept.frames = deque([*[batch for batch in kept.frames if batch.first != frames.first], frames])
        return True

    async def leave_thread(self, key: Key, token: str) -> None:
        kept = self._threads.get(key)
        if kept is not None and kept.token == token:
            kept.token, kept.touched = None, self._clock()
            kept.stored = replace(kept.stored, running=False, active="null")
        self._signals.pop(token, None)

    async def thread(self, key: Key, within: float) -> StoredThread | None:
        kept = self._threads.get(key)
        recent = kept is not None and (kept.token is not None or kept.touched > self._clock() - within)
        return kept.stored if kept is not None and recent else None

    async def threads(self, principal: str) -> Sequence[StoredThread]:
        running = [kept.stored for key, kept in self._threads.items() if key.principal == principal and kept.token]
        return sorted(running, key=lambda thread: thread.id)

    async def frames(self, key: Key, after: int) -> Sequence[Events]:
        kept = self._threads.get(key)
        return [] if kept is None else [batch for batch in kept.frames if batch.last > after]

    async def put_signal(self, key: Key, body: str) -> bool:
        kept = self._threads.get(key)
        if kept is None or kept.token is None:
            return False
        self._signals.setdefault(kept.token, []).append(body)
        return True

    async def take_signals(self, tokens: Sequence[str]) -> Sequence[tuple[str, str]]:
        return [(token, body) for token in tokens for body in self._signals.pop(token, ())]
