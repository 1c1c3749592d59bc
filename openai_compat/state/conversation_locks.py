"""Locks of server-side conversations: one turn at a time in each."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from ..agent_request import AgentRequest
from ..aio.off_loop import MANY, off_loop
from ..errors import Conflict, OpenAICompatError
from ..policies.conversations import Conversations, WhenBusy
from ..policies.limits import LEASE
from ..stores.port import Store
from ..stores.records import Conversation, Key
from .degraded import LateWork
from .draft import Draft, transcript
from .ids import new_id
from .leases import Leases, superseded

LOOK_AGAIN = 1.0
"""Seconds after which those who wait for a conversation poll the store: another process may have had the lock."""

LOOK_AGAIN_SOON = 0.25
"""The same for those who supersede whoever has it."""

WANTED_FOR = 3.0
"""Seconds for which a turn supersedes others, unless it says so again: its process may have died."""


class ConversationLocks:
    """Gives each conversation of a store to one turn at a time. Each server has its own.

    Turns of other processes are kept out by the store's lock; `leases` renew it, where the store is shared. `late` is
    where a lock is given back.
    """

    def __init__(self, settings: Conversations, store: Store, leases: Leases | None, late: LateWork) -> None:
        self._store = store
        self._busy: WhenBusy = settings.busy
        self._queue = settings.queue
        self._by_transcript = settings.by_transcript
        self._leases = leases
        self._late = late
        self._running: dict[Key, Draft] = {}
        self._waiting: dict[Key, list[Draft]] = {}

    async def open(
        self, principal: str, identifier: str | None, request: AgentRequest, *, long: bool = False
    ) -> Draft | None:
        """Begin a turn in the conversation that `request` belongs to; None if it belongs to none.

        `long` if the request is too long to be processed in the event loop.

        Raises Conflict (409 `conversation_busy`), and InvalidRequest if there is nothing new from the user.
        """
        if identifier is None:
            if not self._by_transcript:
                return None
            identifier = await self._found(principal, request, long=long)
        draft = await self.lock(Key(principal, identifier))
        try:
            draft.long = long or len(draft.conversation.items) > MANY
            if draft.long:
                await off_loop(draft.take_up, request)
            else:
                draft.take_up(request)
        except BaseException:
            await draft.close()
            raise
        return draft

    async def lock(self, key: Key, unknown: Callable[[], OpenAICompatError] | None = None) -> Draft:
        """Lock a conversation for one turn. Raises Conflict (409 `conversation_busy`).

        Raises what `unknown` makes, if given, for one that was not created and has no turn. Otherwise that is begun.
        """
        draft = Draft(key, self._unlock)
        try:
            draft.conversation = await self._lock(draft, unknown)
        except BaseException:
            await draft.close()  # a cancellation may have come after the store had locked
            raise
        # From here until `_leave`, whoever takes the conversation away interrupts the turn.
        if self._leases is not None:
            self._leases.hold(draft.token, draft.interrupt)
        return draft

    async def _found(self, principal: str, request: AgentRequest, *, long: bool) -> str:
        before = request.messages[: len(request.messages) - len(request.new_messages)]
        said = await off_loop(transcript, before, long=long)
        found = await self._store.find(principal, said) if before else None
        # One that went on since belongs to another branch of the conversation: this request begins a new one.
        return found[0] if found is not None and found[1] else new_id("conv_")

    @property
    def _lease(self) -> float:
        return LEASE if self._leases is None else self._leases.seconds

    async def _lock(self, draft: Draft, unknown: Callable[[], OpenAICompatError] | None) -> Conversation:
        found = None
        if draft.key not in self._waiting:  # first come, first served
            found = await self._take(draft, unknown)
        if found is None and self._busy != "reject":
            found = await self._wait(draft, unknown)
        if found is None:
            text = "Another turn is running in this conversation."
            # SDKs would repeat a 409 at once, long before an agent's turn is over.
            raise Conflict(text, code="conversation_busy", should_retry=False)
        self._running[draft.key] = draft
        return found

    async def _take(self, draft: Draft, unknown: Callable[[], OpenAICompatError] | None) -> Conversation | None:
        """Lock and read; None while another turn holds the lock."""
        found = await self._store.begin(draft.key, draft.token, self._lease, known=unknown is not None)
        if found is None and unknown is not None and await self._store.read(draft.key, items=False) is None:
            raise unknown()
        return found

    async def _wait(self, draft: Draft, unknown: Callable[[], OpenAICompatError] | None) -> Conversation | None:
        """Queue for the lock. A turn of this process that ends wakes the first; turns of others are polled for."""
        queue = self._waiting.setdefault(draft.key, [])
        supersedes = self._busy == "supersede"
        if supersedes:
            running = self._running.get(draft.key)
            for other in (*([running] if running is not None else []), *queue):
                other.interrupt(superseded())
        queue.append(draft)
        try:
            with anyio.move_on_after(self._queue):
                while True:
                    if supersedes and self._leases is not None:
                        # The turn may run in another process, which looks for such a wish.
                        newest, draft.has_wanted = not draft.has_wanted, True
                        if not await self._store.want(draft.key, draft.token, WANTED_FOR, newest=newest):
                            raise superseded()  # a newer message came there
                    await draft.woken(LOOK_AGAIN_SOON if supersedes else LOOK_AGAIN)
                    if queue[0] is draft:  # only the first polls, so that the order stays
                        found = await self._take(draft, unknown)
                        if found is not None:
                            return found
            return None
        finally:
            queue.remove(draft)
            if queue:  # whoever was woken and leaves instead has to pass it on
                queue[0].wake()
            else:
                del self._waiting[draft.key]

    async def _unlock(self, draft: Draft) -> None:
        if draft.is_committed:  # the commit has unlocked the conversation in the store
            self._leave(draft)
        else:
            await self._late.give_back(lambda: self._release(draft), "conversation given free")

    async def _release(self, draft: Draft) -> None:
        try:
            await self._store.release(draft.key, draft.token)
        finally:  # the next one may try even if the store is away: it will find out by itself
            self._leave(draft)

    def _leave(self, draft: Draft) -> None:
        """Forget a turn, and wake the next one in the queue."""
        if self._leases is not None:
            self._leases.drop(draft.token)
        if self._running.get(draft.key) is draft:
            del self._running[draft.key]
        if draft.key in self._waiting:
            self._waiting[draft.key][0].wake()
