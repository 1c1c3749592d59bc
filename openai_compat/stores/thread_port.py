"""The part of the store port for chat WebSocket threads: one process writes frames; others resume, stop and send input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..policies.limits import LEASE
from .records import Events, Key, StoredThread

SKIPPED = 1000
"""Frame numbers skipped after the writing process has died: its clients may have seen frames that were never stored."""


class ThreadStore(Protocol):
    """Threads, their frames, and the signals that other connections send to their turns."""

    async def take_thread(self, key: Key, token: str, keep: int, lease: float = LEASE) -> StoredThread | None:
        """Lock a thread, known or new, for one turn, which alone may add frames; None while another turn holds it.

        Frames before the last `keep` are deleted.
        """
        ...

    async def append_frames(self, key: Key, token: str, thread: StoredThread, frames: Events | None) -> bool:
        """Add frames and replace the thread's record. If `token` does not hold the thread, write nothing and return False."""
        ...

    async def leave_thread(self, key: Key, token: str) -> None:
        """Release a thread: its turn is over."""
        ...

    async def thread(self, key: Key, within: float) -> StoredThread | None:
        """A thread whose turn is running, or ended less than `within` seconds ago."""
        ...

    async def threads(self, principal: str) -> Sequence[StoredThread]:
        """A principal's threads with a running turn."""
        ...

    async def frames(self, key: Key, after: int) -> Sequence[Events]:
        """The batches with frames numbered above `after`, in order; the first batch may begin before `after`."""
        ...

    async def put_signal(self, key: Key, body: str) -> bool:
        """Send a signal, as JSON, to the turn that runs in a thread. False if none runs."""
        ...

    async def take_signals(self, tokens: Sequence[str]) -> Sequence[tuple[str, str]]:
        """The signals for these turns with their tokens, in order; each is delivered once."""
        ...
