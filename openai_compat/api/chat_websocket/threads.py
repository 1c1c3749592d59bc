"""Threads of the chat WebSocket and their running turns. They belong to principals, not to connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import anyio

from ...backend import AgentBackend
from ...errors import Conflict
from ...policies.chat_websocket import ChatWebSocket
from ...state.conversation_locks import ConversationLocks
from ...stores.bounded_tables import Shares, Table
from ...stores.records import Key
from ...wire.chat_websocket.types import ToolResultFrame
from .frame_log import Follower, ThreadLog

if TYPE_CHECKING:
    from .shared_threads import SharedThreads

Fields: TypeAlias = dict[str, Any]

MOST_ENDED = 1000
"""Threads of one principal without a turn whose frames are kept at most."""

MOST_WAITING = 16
"""Messages that may wait for their turn in one thread."""


class RunningTurn(Protocol):
    """A turn of a thread, as others see it."""

    @property
    def begun(self) -> bool:
        """True once it has its thread to itself; before, it waits for it."""
        ...

    @property
    def over(self) -> bool:
        """True once its last frame is out; it may still have to leave the thread."""
        ...

    async def wait(self) -> None:
        """Return when it is over."""
        ...

    def stop(self) -> bool:
        """End it, since the user wants to. False if it is too late."""
        ...

    def left(self) -> None:
        """Nobody follows it any more."""
        ...

    def joined(self) -> None:
        """Somebody follows it again, so that it need not end for want of a client."""
        ...

    def waits_for(self, call_id: str) -> bool:
        """True if it waits for the result of this call."""
        ...

    def answer(self, frame: ToolResultFrame) -> None:
        """Take the client's result of a call that it waits for."""
        ...

    def describe(self) -> Fields:
        """The frame that describes it."""
        ...


@dataclass(slots=True)
class Thread:
    """One conversation's frames, and the turns that make them.

    Attributes:
        turns: those that run or wait, in order.
        model: what was asked last.
        elsewhere: whether a turn runs in another process, whose frames are copied here.
        unused: called when it has neither turns nor followers any more.
    """

    key: Key
    log: ThreadLog
    unused: Callable[[Thread], None]
    turns: list[RunningTurn] = field(default_factory=list[RunningTurn])
    model: str | None = None
    elsewhere: bool = False

    @property
    def current(self) -> RunningTurn | None:
        """The turn that has the thread to itself; None while none has begun."""
        return next((turn for turn in self.turns if turn.begun), None)

    def leave(self, follower: Follower) -> None:
        """Somebody follows no more; after the last one, turns learn of it, and an unused thread is forgotten."""
        self.log.leave(follower)
        if not self.log.followed:
            for turn in self.turns:
                turn.left()
            if not self.turns:
                self.unused(self)


class ChatThreads:
    """All threads of a server that have frames to tell.

    Attributes:
        shared: makes them known to the other processes of the store, if there can be any.
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
        self._ended: Table[str, Thread] = Table(shares, MOST_ENDED, self._forget)
        self._running: dict[Key, Thread] = {}
        self._idle = anyio.Event()

    def find(self, key: Key) -> Thread | None:
        """A thread with frames that are kept."""
        self.sweep()
        return self._threads.get(key)

    def running(self, principal: str) -> Sequence[Thread]:
        """A principal's threads that have turns."""
        return [thread for key, thread in self._running.items() if key.principal == principal]

    def mirror(self, key: Key) -> Thread:
        """A thread that another process has, known or new. Its frames stay until `mirrored`."""
        thread = self._made(key)
        self._ended.hold(key.principal, key.id, thread)
        return thread

    def mirrored(self, thread: Thread) -> None:
        """Nothing more comes from the other process; its frames are kept for a while."""
        if not thread.turns:
            self._ended.rest(thread.key.principal, thread.key.id, thread, thread.log.size, self._clock())
        thread.log.wake()

    def _made(self, key: Key) -> Thread:
        thread = self.find(key)
        if thread is None:
            log = ThreadLog(key.id, self.settings.ring, self.settings.ring_bytes)
            thread = self._threads[key] = Thread(key, log, self._unused)
        return thread

    def add(self, key: Key, turn: RunningTurn) -> Thread:
        """A turn is to run in a thread, known or new. Raises Conflict if too many wait there."""
        thread = self._made(key)
        # Each of them has a task and its message in memory, and is answered one after the other.
        if len(thread.turns) > MOST_WAITING:
            raise Conflict("Too many messages wait in this thread.", code="conversation_busy", should_retry=False)
        thread.turns.append(turn)
        # Held, so that its frames are not dropped while a turn runs.
        self._ended.hold(key.principal, key.id, thread)
        self._running[key] = thread
        return thread

    def ended(self, thread: Thread, turn: RunningTurn) -> None:
        """A turn is over; after the last one, the frames of the thread are kept for a while."""
        thread.turns.remove(turn)
        if thread.turns:
            return
        self._ended.rest(thread.key.principal, thread.key.id, thread, thread.log.size, self._clock())
        thread.log.wake()  # connections that wait for the end of all turns
        del self._running[thread.key]
        if not self._running:
            self._idle.set()
            self._idle = anyio.Event()

    def sweep(self) -> None:
        """Forget the frames whose time is over."""
        self._ended.pop_unused(self._clock() - self.settings.replay)

    def _forget(self, principal: str, thread_id: str, thread: Thread) -> None:
        """Forget a thread's frames; where somebody still looks, the numbers go on."""
        thread.log.clear()
        self._unused(thread)

    def _unused(self, thread: Thread) -> None:
        if not thread.log.followed and not thread.log.size:
            self._threads.pop(thread.key, None)

    async def wait_idle(self) -> None:
        """Return once no turn runs."""
        while self._running:
            await self._idle.wait()
