"""The part of the store port for threads of the chat WebSocket: what one process says, and others resume, stop and feed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..policies.limits import LEASE
from .records import Events, Key, StoredThread

SKIPPED = 1000
"""Numbers that are left out where the process that gave them has died: its clients may have seen some that are not kept."""


class ThreadStore(Protocol):
    """Threads, their frames, and what their turns are told from elsewhere."""

    async def take_thread(self, key: Key, token: str, keep: int, lease: float = LEASE) -> StoredThread | None:
        """Take a thread, known or new, for one turn, which alone adds frames to it; None while another turn has it.

        Frames before the last `keep` are forgotten.
        """
        ...

    async def append_frames(self, key: Key, token: str, thread: StoredThread, frames: Events | None) -> bool:
        """Add frames, and replace what is known of the thread. False, and nothing is written, if `token` does not have it."""
        ...

    async def leave_thread(self, key: Key, token: str) -> None:
        """Give it back: its turn is over."""
        ...

    async def thread(self, key: Key, within: float) -> StoredThread | None:
        """A thread in which a turn runs, or has run within so many seconds."""
        ...

    async def threads(self, principal: str) -> Sequence[StoredThread]:
        """A principal's threads in which a turn runs."""
        ...

    async def frames(self, key: Key, after: int) -> Sequence[Events]:
        """The batches that hold numbers beyond `after`, in order; the first may begin before it."""
        ...

    async def put_signal(self, key: Key, body: str) -> bool:
        """Tell the turn that runs in a thread something, as JSON. False if none runs."""
        ...

    async def take_signals(self, tokens: Sequence[str]) -> Sequence[tuple[str, str]]:
        """What these turns were told, each once, in order, with their tokens."""
        ...
