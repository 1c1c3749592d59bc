"""The threads of a chat WebSocket: their frames and followers. They belong to principals, not to connections.

The frames of a thread are numbered, for clients that follow it now and for clients that come back.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from ...aio.timers import Waiter, new_waiter
from ...backend import AgentBackend
from ...errors import Conflict
from ...policies.chat_websocket import ChatWebSocket
from ...state.conversation_locks import ConversationLocks
from ...stores.bounded_tables import VALUE_SIZE, Shares, Table, size_of_value
from ...stores.records import Key
from ...wire.reducer import LARGE_ITEM

if TYPE_CHECKING:
    from .shared_threads import SharedThreads
    from .turn import ChatTurn

Fields: TypeAlias = dict[str, Any]

# A page in the background reads slowly; an agent that waited for each frame to be read would be as slow.
MAX_AHEAD = 256
"""Frames that a turn may be ahead of its slowest follower."""

FRAME_SIZE = 250
"""Overhead of a frame in bytes, besides its content."""

MOST_ENDED = 1000
"""Most threads of one principal that have no turn and whose frames are kept."""

MOST_WAITING = 16
"""Messages that may wait for their turn in one thread."""


class ThreadLog:
    """Numbers frames from 1, and keeps the last ones, up to a number and a size, and all that followers still need.

    Attributes:
        last: the number of the last frame, 0 before the first.
        settled: the number of the last frame whose content is in the stored conversation.
    """

    def __init__(self, thread: str, most: int, most_bytes: int) -> None:
        self.thread = thread
        self.last = 0
        self.settled = 0
        self._most = most
        self._most_bytes = most_bytes
        self._frames: deque[Fields] = deque()
        self._sizes: deque[int] = deque()
        self._size = 0
        self._followers: list[Follower] = []
        self._room: Waiter | None = None

    @property
    def first(self) -> int:
        """The number of the oldest frame that is kept."""
        return self.last - len(self._frames) + 1

    @property
    def size(self) -> int:
        """Approximate size in bytes of the frames that are kept."""
        return self._size

    @property
    def followed(self) -> bool:
        """True if a connection still reads new frames."""
        return any([follower.reads for follower in self._followers])

    def append(self, *frames: Fields) -> int:
        """Number frames and pass them to all followers. Returns the size of their content in bytes."""
        thread, last, sizes = self.thread, self.last, 0
        for frame in frames:
            last += 1
            text: Any = frame.get("content")
            if frame["type"] == "chunk" and text.__class__ is str and text.isascii():  # nearly all frames
                size = FRAME_SIZE + len(text)
            else:
                size = FRAME_SIZE + size_of_value(frame) - VALUE_SIZE
            frame["thread_id"], frame["chat_seq"] = thread, last
            self._sizes.append(size)
            sizes += size
        self._size += sizes
        # The whole batch before anybody is woken: a follower never sees a number without its frame.
        self._frames.extend(frames)
        self.last = last
        self._trim()
        self.wake()
        return sizes - FRAME_SIZE * len(frames)

    def restore(self, frames: Iterable[Fields]) -> None:
        """Append frames that were numbered elsewhere, except those that the log has already."""
        for frame in frames:
            if frame["chat_seq"] > self.last:
                self.skip_to(frame["chat_seq"] - 1)
                self.append(frame)

    def skip_to(self, number: int) -> None:
        """Continue after `number`, if the log has not reached it: earlier frames are no longer available."""
        if number > self.last:
            self.clear()
            self.last = number
            self.move_followers_to_end()

    def move_followers_to_end(self) -> None:
        """Move all followers to the end of the log."""
        for follower in self._followers:
            follower.position = self.last

    def wake(self) -> None:
        """Wake all followers: there are new frames, or a turn has ended."""
        for follower in self._followers:
            follower.wake()

    def clear(self) -> None:
        """Drop all frames; the numbering goes on."""
        self._frames.clear()
        self._sizes.clear()
        self._size = 0

    def _trim(self) -> None:
        """Drop the oldest frames beyond the limits, except those that a follower has not read."""
        if len(self._frames) <= self._most and self._size <= self._most_bytes:
            return
        needed = min([follower.position for follower in self._followers], default=self.last)
        while (len(self._frames) > self._most or self._size > self._most_bytes) and self.first <= needed:
            # A single frame above the size limit stays: clients that come back have yet to read it.
            if len(self._frames) == 1:
                return
            self._frames.popleft()
            self._size -= self._sizes.popleft()

    def frames_after(self, number: int, most: int) -> list[Fields]:
        """At most `most` frames after `number`, oldest first."""
        skipped = max(0, number + 1 - self.first)
        return list(islice(self._frames, skipped, skipped + most))

    def follow(self, at: int, wake: Callable[[], None], *, binary: bool, reads: bool = True) -> Follower:
        """Follow from the frame after number `at`; `wake` is called for each new one. `reads` is True for a client."""
        follower = Follower(self, at, wake, binary=binary, reads=reads)
        self._followers.append(follower)
        return follower

    def leave(self, follower: Follower) -> None:
        """Stop following. Does nothing for a follower that has left already."""
        if follower in self._followers:
            self._followers.remove(follower)
            self.on_follower_moved()

    def on_follower_moved(self) -> None:
        """Note that a follower has read on, or left."""
        # Frames that only the slowest follower still needed can go now.
        self._trim()
        if self._room is not None:
            self._room.wake()
            self._room = None

    def has_room(self, ahead: int = MAX_AHEAD) -> bool:
        """True if no follower is more than `ahead` frames, or too many bytes, behind."""
        behind = self.last - min([follower.position for follower in self._followers], default=self.last)
        # Bytes count too, or a few images would exceed any limit that is only a number of frames.
        return behind <= ahead and (not behind or self._size <= self._most_bytes)

    async def wait_for_room(self, ahead: int = MAX_AHEAD) -> None:
        """Return once the log has room."""
        while not self.has_room(ahead):
            self._room = self._room or new_waiter()
            await self._room.sleep()


class Follower:
    """A reader of a log as it grows. `binary` is the kind of frames that it wants.

    A follower that does not read, but copies the log for others, does not keep a turn running.
    """

    def __init__(self, log: ThreadLog, at: int, wake: Callable[[], None], *, binary: bool, reads: bool) -> None:
        self.log = log
        self.position = at
        self.wake = wake
        self.binary = binary
        self.reads = reads

    def next_frames(self) -> list[Fields]:
        """The next frames; `mark_sent` marks them as read."""
        if self.position == self.log.last:
            return []
        return self.log.frames_after(self.position, MAX_AHEAD)

    def mark_sent(self, number: int) -> None:
        """Note that everything up to `number` was sent."""
        self.position = number
        self.log.on_follower_moved()


class ThreadDelivery:
    """Delivers a turn's frames to the thread's log, which all followers read."""

    due = math.inf
    log: ThreadLog
    _large = False

    def started(self) -> None:
        """Nothing: the thread knows of the turn already."""

    def write_now(self, frames: list[Fields]) -> bool:
        """Append frames, unless the turn has to wait for its followers."""
        if self._large or not self.log.has_room():
            return False
        self._large = self.log.append(*frames) > LARGE_ITEM
        return True

    async def write(self, frames: list[Fields]) -> None:
        """Append frames; returns once no follower is too far behind."""
        large = self.log.append(*frames) > LARGE_ITEM or self._large
        self._large = False
        await self.log.wait_for_room(0 if large else MAX_AHEAD)

    async def flush(self) -> None:
        """Nothing: `write` has passed everything to the log."""

    async def keep_alive(self) -> None:
        """Nothing: each connection that follows sends its own pings."""

    async def end(self, frames: list[Fields]) -> None:
        """Append the last frames. The stored conversation has everything up to these."""
        self.log.append(*frames)
        self.log.settled = self.log.last


@dataclass(slots=True)
class Thread:
    """One conversation's frames, and the turns that produce them.

    Attributes:
        turns: the running and waiting turns, in order.
        model: the model that was requested last.
        runs_elsewhere: True if a turn runs in another process, whose frames are copied here.
        on_unused: called when the thread has neither turns nor followers any more.
    """

    key: Key
    log: ThreadLog
    on_unused: Callable[[Thread], None]
    turns: list[ChatTurn] = field(default_factory=list["ChatTurn"])
    model: str | None = None
    runs_elsewhere: bool = False

    @property
    def current(self) -> ChatTurn | None:
        """The turn that holds the thread; None while none has begun."""
        return next((turn for turn in self.turns if turn.begun), None)

    def leave(self, follower: Follower) -> None:
        """Remove a follower; after the last one, turns are notified, and an unused thread is forgotten."""
        self.log.leave(follower)
        if not self.log.followed:
            for turn in self.turns:
                turn.start_grace_period()
            if not self.turns:
                self.on_unused(self)


class ChatThreads:
    """All threads of a server that have frames to send.

    Attributes:
        shared: shares them with other processes that use the store, if there can be any.
    """

    def __init__(
        self,
        settings: ChatWebSocket,
        workflows: Mapping[str, AgentBackend],
        conversations: ConversationLocks,
        clock: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.workflows = workflows
        self.conversations = conversations
        self.shared: SharedThreads | None = None
        self._clock = clock
        self._threads: dict[Key, Thread] = {}
        shares = Shares(settings.rings_bytes, min(settings.rings_bytes, settings.rings_bytes_per_principal))
        self._ended: Table[str, Thread] = Table(shares, MOST_ENDED, self._drop_frames)
        self._running: dict[Key, Thread] = {}
        self._idle = anyio.Event()

    def find(self, key: Key) -> Thread | None:
        """A thread whose frames are kept, or None."""
        self.sweep()
        return self._threads.get(key)

    def running_threads(self, principal: str) -> Sequence[Thread]:
        """A principal's threads that have turns."""
        return [thread for key, thread in self._running.items() if key.principal == principal]

    def start_mirroring(self, key: Key) -> Thread:
        """A thread that another process runs, known or new. Its frames stay until `stop_mirroring` is called."""
        thread = self._find_or_create(key)
        self._ended.hold(key.principal, key.id, thread)
        return thread

    def stop_mirroring(self, thread: Thread) -> None:
        """Note that the other process sends nothing more; the thread's frames are kept for a while."""
        if not thread.turns:
            self._ended.put(thread.key.principal, thread.key.id, thread, thread.log.size, self._clock())
        thread.log.wake()

    def _find_or_create(self, key: Key) -> Thread:
        thread = self.find(key)
        if thread is None:
            log = ThreadLog(key.id, self.settings.ring, self.settings.ring_bytes)
            thread = self._threads[key] = Thread(key, log, self._drop_if_unused)
        return thread

    def add_turn(self, key: Key, turn: ChatTurn) -> Thread:
        """Add a turn to a thread, known or new. Raises Conflict if too many turns wait there."""
        thread = self._find_or_create(key)
        # Each waiting turn keeps a task and its message in memory, and they are answered one after the other.
        if len(thread.turns) > MOST_WAITING:
            raise Conflict("Too many messages wait in this thread.", code="conversation_busy", should_retry=False)
        thread.turns.append(turn)
        # Held, so that its frames are not dropped while a turn runs.
        self._ended.hold(key.principal, key.id, thread)
        self._running[key] = thread
        return thread

    def remove_turn(self, thread: Thread, turn: ChatTurn) -> None:
        """Remove a turn that is over; after the last one, the frames of the thread are kept for a while."""
        thread.turns.remove(turn)
        if thread.turns:
            return
        self._ended.put(thread.key.principal, thread.key.id, thread, thread.log.size, self._clock())
        thread.log.wake()  # connections that wait for the end of all turns
        del self._running[thread.key]
        if not self._running:
            self._idle.set()
            self._idle = anyio.Event()

    def sweep(self) -> None:
        """Drop the frames that have expired."""
        self._ended.pop_unused(self._clock() - self.settings.replay)

    def _drop_frames(self, principal: str, thread_id: str, thread: Thread) -> None:
        """Drop a thread's frames; if a client still follows, the numbering goes on."""
        thread.log.clear()
        self._drop_if_unused(thread)

    def _drop_if_unused(self, thread: Thread) -> None:
        if not thread.log.followed and not thread.log.size:
            self._threads.pop(thread.key, None)

    async def wait_idle(self) -> None:
        """Return once no turn runs."""
        while self._running:
            await self._idle.wait()
