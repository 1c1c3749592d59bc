"""Server-side conversations: one turn at a time holds the lock of each, and works on a draft.

The draft is committed only after its turn has succeeded, and before the last byte of the answer. A turn that fails, is
cancelled or times out leaves the conversation unchanged.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeAlias

import anyio

from ..agent_request import AgentRequest, CustomTool
from ..aio.off_loop import MANY, run_off_loop
from ..errors import Conflict, InvalidRequest, OpenAICompatError
from ..messages import AssistantMessage, Message, SystemMessage, ToolCall, ToolMessage, UserMessage
from ..policies.conversations import Conversations, WhenBusy
from ..policies.limits import LEASE
from ..policies.messages import remove_presentation
from ..stores.port import Conversation, ConversationTurn, Item, Key, Store
from ..wire.chat.parse import resume_of
from ..wire.conversation_rules import check_conversation
from ..wire.items.parse import parse_items
from ..wire.json import from_stored_json, stored_json
from ..wire.reducer import FinalMessage
from ..wire.responses.continuation import NOT_RUN
from ..wire.serialize_messages import chat_message, compaction_item, items_of, reply_message
from .degraded import LateWork
from .ids import new_id
from .leases import Leases, superseded_error

Stop: TypeAlias = Callable[[OpenAICompatError], None]

POLL = 1.0
"""Seconds after which waiting turns poll the store: another process may have released the lock."""

SUPERSEDE_POLL = 0.25
"""The same for turns that supersede the lock's holder."""

WANT_LIFETIME = 3.0
"""Seconds for which a turn supersedes others, unless it repeats the request: its process may have died."""


class ConversationLocks:
    """Gives each conversation of a store to one turn at a time. Each server has its own locks.

    The store's lock excludes turns of other processes; `leases` renew it if the store is shared. `late` runs the release of
    a lock.
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

        With `long`, the request is too long to be processed in the event loop.

        Raises Conflict (409 `conversation_busy`), and InvalidRequest if the user has sent nothing new.
        """
        if identifier is None:
            if not self._by_transcript:
                return None
            identifier = await self._find_conversation_id(principal, request, long=long)
        draft = await self.lock(Key(principal, identifier))
        try:
            draft.long = long or len(draft.conversation.items) > MANY
            if draft.long:
                await run_off_loop(draft.append_request, request)
            else:
                draft.append_request(request)
        except BaseException:
            await draft.close()
            raise
        return draft

    async def lock(self, key: Key, unknown: Callable[[], OpenAICompatError] | None = None) -> Draft:
        """Lock a conversation for one turn. Raises Conflict (409 `conversation_busy`).

        If the conversation does not exist yet, raises the error from `unknown`, if given; otherwise a new one is begun.
        """
        draft = Draft(key, self._unlock)
        try:
            draft.conversation = await self._lock(draft, unknown)
        except BaseException:
            await draft.close()  # a cancellation may have come after the store locked it
            raise
        # From here until `_remove_turn`, another turn that takes the conversation interrupts this one.
        if self._leases is not None:
            self._leases.hold(draft.token, draft.interrupt)
        return draft

    async def _find_conversation_id(self, principal: str, request: AgentRequest, *, long: bool) -> str:
        before = request.messages[: len(request.messages) - len(request.new_messages)]
        said = await run_off_loop(transcript_hash, before, long=long)
        found = await self._store.find(principal, said) if before else None
        # If it has continued since, it is another branch of the conversation: this request begins a new one.
        return found[0] if found is not None and found[1] else new_id("conv_")

    @property
    def _lease(self) -> float:
        return LEASE if self._leases is None else self._leases.seconds

    async def _lock(self, draft: Draft, unknown: Callable[[], OpenAICompatError] | None) -> Conversation:
        found = None
        if draft.key not in self._waiting:  # first come, first served
            found = await self._try_lock(draft, unknown)
        if found is None and self._busy != "reject":
            found = await self._queue_for_lock(draft, unknown)
        if found is None:
            text = "Another turn is running in this conversation."
            # SDKs would retry a 409 at once, long before an agent's turn is over.
            raise Conflict(text, code="conversation_busy", should_retry=False)
        self._running[draft.key] = draft
        return found

    async def _try_lock(self, draft: Draft, unknown: Callable[[], OpenAICompatError] | None) -> Conversation | None:
        """Lock and read; None while another turn holds the lock."""
        found = await self._store.begin(draft.key, draft.token, self._lease, known=unknown is not None)
        if found is None and unknown is not None and await self._store.read(draft.key, items=False) is None:
            raise unknown()
        return found

    async def _queue_for_lock(
        self, draft: Draft, unknown: Callable[[], OpenAICompatError] | None
    ) -> Conversation | None:
        """Queue for the lock. A turn of this process wakes the first in the queue as it ends; other processes are polled."""
        queue = self._waiting.setdefault(draft.key, [])
        supersedes = self._busy == "supersede"
        if supersedes:
            running = self._running.get(draft.key)
            for other in (*([running] if running is not None else []), *queue):
                other.interrupt(superseded_error())
        queue.append(draft)
        try:
            with anyio.move_on_after(self._queue):
                while True:
                    if supersedes and self._leases is not None:
                        # The turn may run in another process, which polls the store for this request.
                        newest, draft.has_wanted = not draft.has_wanted, True
                        if not await self._store.want(draft.key, draft.token, WANT_LIFETIME, newest=newest):
                            raise superseded_error()  # a newer message arrived at another process
                    await draft.wait_for_wake(SUPERSEDE_POLL if supersedes else POLL)
                    if queue[0] is draft:  # only the first polls, which preserves the order
                        found = await self._try_lock(draft, unknown)
                        if found is not None:
                            return found
            return None
        finally:
            queue.remove(draft)
            if queue:  # a turn that was woken but leaves must wake the next one
                queue[0].wake()
            else:
                del self._waiting[draft.key]

    async def _unlock(self, draft: Draft) -> None:
        if draft.is_committed:  # the commit has unlocked the conversation in the store
            self._remove_turn(draft)
        else:
            await self._late.run_shielded(lambda: self._release(draft), "conversation given free")

    async def _release(self, draft: Draft) -> None:
        try:
            await self._store.release(draft.key, draft.token)
        finally:  # the next turn may try even if the store is away: it will see the error
            self._remove_turn(draft)

    def _remove_turn(self, draft: Draft) -> None:
        """Remove a turn, and wake the next one in the queue."""
        if self._leases is not None:
            self._leases.drop(draft.token)
        if self._running.get(draft.key) is draft:
            del self._running[draft.key]
        if draft.key in self._waiting:
            self._waiting[draft.key][0].wake()


class Draft:
    """One turn's uncommitted change to a conversation that it has locked. Closing it uncommitted changes nothing.

    Attributes:
        key: the conversation's key.
        token: holds the lock.
        conversation: its state when it was locked.
        request: the turn's request, with the conversation history.
        long: True if the history is too long to be processed in the event loop.
        has_wanted: True if the turn has registered with the store as the next one to get the conversation.
        is_committed: True if the turn is stored; its commit has also unlocked the conversation.
    """

    conversation: Conversation
    request: AgentRequest
    long: bool = False

    def __init__(self, key: Key, unlock: Callable[[Draft], Awaitable[None]]) -> None:
        self.key = key
        # Random, not a counter: after a failover, a database could hand out a lower number.
        self.token = secrets.token_hex(16)
        self.has_wanted = False
        self.is_committed = False
        self._unlock = unlock
        self._new: tuple[Message, ...] = ()
        self._added: tuple[Message, ...] = ()
        self._stop: Stop | None = None
        self._stopped: OpenAICompatError | None = None
        self._woken = anyio.Event()

    def append_request(self, request: AgentRequest) -> None:
        """Append the request's new messages to the stored history."""
        history, waiting = _pair_calls(parse_items(self.items))
        # Clients that store the history themselves send all of it again: only messages after the last reply are new.
        self._new = _new_messages(waiting, request) if history else request.messages
        messages = _with_tool_names((*history, *self._new))
        # The stored history is in order, and messages of users and instructions alone cannot change that.
        if not all([isinstance(message, UserMessage | SystemMessage) for message in self._new]):
            check_conversation(messages)
        raw = [chat_message(message) for message in messages] if history else request.raw_messages
        self.request = replace(
            request,
            messages=messages,
            raw_messages=raw,
            resume=resume_of(messages),
            conversation_id=self.key.id,
            is_kept=True,
        )

    def resume_request(self, request: AgentRequest) -> None:
        """Set the stored history as the messages of a paused turn's request, which has no new messages."""
        messages = _with_tool_names(_pair_calls(parse_items(self.items))[0])
        raw = [chat_message(message) for message in messages]
        self.request = replace(request, messages=messages, raw_messages=raw, conversation_id=self.key.id, is_kept=True)

    @property
    def new_messages(self) -> tuple[Message, ...]:
        """The messages that the request adds to the history."""
        return self._new

    @property
    def items(self) -> list[dict[str, Any]]:
        """The stored history without this turn, parsed on each access."""
        return [from_stored_json(item.body) for item in self.conversation.items]

    def to_turn(self, reply: FinalMessage) -> ConversationTurn:
        """The new messages and the reply, ready to be committed."""
        # Custom tools' calls and results are items of a separate type, and messages do not tell them apart.
        custom = frozenset([tool.name for tool in self.request.tools if isinstance(tool, CustomTool)])
        said = reply_message(reply, custom)
        messages = (*self.request.messages, *self._added, said)
        calls = {
            c.call_id for m in messages if isinstance(m, AssistantMessage) for c in m.tool_calls if c.kind == "custom"
        }
        # Stored as items of the Responses API: chat has no place for a compaction, or for unknown item types.
        new = [item for message in self._new for item in items_of(message, new_id, calls)]
        if reply.compacted is not None:
            new.append(compaction_item(reply.compacted, new_id))
        new += items_of(said, new_id, calls)
        return ConversationTurn(self.key.id, to_stored_items(new), transcript_hash(messages))

    def add(self, *messages: Message) -> None:
        """Add messages during the turn, to be committed with it."""
        self._new += messages
        self._added += messages

    def on_interrupt(self, stop: Stop) -> None:
        """Set the function that stops the turn from outside. It is called at once if the turn was already interrupted."""
        self._stop = stop
        if self._stopped is not None:
            stop(self._stopped)

    def interrupt(self, error: OpenAICompatError) -> None:
        """Stop the turn; its client gets `error`."""
        self._stopped = error
        self.wake()
        if self._stop is not None:
            self._stop(error)

    def wake(self) -> None:
        """Wake a queued turn so that it can try the lock."""
        self._woken.set()

    async def wait_for_wake(self, seconds: float) -> None:
        """Wait for `wake`, at most `seconds` seconds. Raises the error that the turn was interrupted with."""
        with anyio.move_on_after(seconds):
            await self._woken.wait()
        self._woken = anyio.Event()  # an anyio event cannot be cleared
        if self._stopped is not None:
            raise self._stopped

    def mark_committed(self) -> None:
        """Mark the turn as committed."""
        self.is_committed = True

    async def close(self) -> None:
        """Unlock the conversation, whatever the turn's outcome."""
        self._stop = None  # the turn is over: an interrupt has nothing left to stop
        await self._unlock(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()


def with_messages(request: AgentRequest, more: Sequence[Message]) -> AgentRequest:
    """Append messages to a request."""
    messages = (*request.messages, *more)
    raw = [*request.raw_messages, *[chat_message(message) for message in more]]
    return replace(request, messages=messages, raw_messages=raw, resume=resume_of(messages))


def to_stored_items(items: Sequence[dict[str, Any]]) -> tuple[Item, ...]:
    """Convert items to stored records."""
    return tuple([Item(item["id"], stored_json(item)) for item in items])


def transcript_hash(messages: Sequence[Message]) -> str:
    """A hash of roles and texts, which does not depend on the format in which a client sends the messages."""
    digest = hashlib.sha256()
    for message in messages:
        if isinstance(message, UserMessage | AssistantMessage):
            said = f"{type(message).__name__}\0{remove_presentation(message.text).strip()}\0"
            digest.update(said.encode("utf-8", "surrogatepass"))  # clients can send lone surrogates
    return digest.hexdigest()


def _with_tool_names(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Set the tool's name in results whose calls are in an earlier request."""
    names = {c.call_id: c.name for m in messages if isinstance(m, AssistantMessage) for c in m.tool_calls}
    return tuple(
        [
            replace(m, name=names.get(m.call_id, m.name)) if isinstance(m, ToolMessage) and not m.name else m
            for m in messages
        ]
    )


def _pair_calls(history: Sequence[Message]) -> tuple[tuple[Message, ...], list[ToolCall]]:
    """Match calls and results: return the history with every call answered, and the open calls at its end.

    Clients can add and delete single items. So results without a call are dropped, and calls without a result get one that
    says that they were not run.
    """
    kept: list[Message] = []
    waiting: dict[str, ToolCall] = {}
    deferred: dict[str, ToolCall] = {}
    for message in history:
        if isinstance(message, ToolMessage):
            # The late result of a call that may stay open keeps its own position; it still belongs to that call.
            if waiting.pop(message.call_id, None) or deferred.pop(message.call_id, None):
                kept.append(message)
            continue
        kept += [_not_run_result(call) for call in waiting.values() if not call.deferred]
        deferred |= {call.call_id: call for call in waiting.values() if call.deferred}
        waiting = {call.call_id: call for call in message.tool_calls} if isinstance(message, AssistantMessage) else {}
        kept.append(message)
    return tuple(kept), list(waiting.values())


def _new_messages(waiting: Sequence[ToolCall], request: AgentRequest) -> tuple[Message, ...]:
    """The request's messages after the last reply, without instructions: only those of the first request count.

    Open calls without a result from the client get one first, since models refuse open calls.
    """
    # A stateless client sends its instructions with every request: the history would repeat them each time.
    new = [message for message in request.new_messages if not isinstance(message, SystemMessage)]
    if not new:
        text = "Nothing new: a request in a known conversation needs a message from the user."
        raise InvalidRequest(text, param="messages")
    answered = {message.call_id for message in new if isinstance(message, ToolMessage)}
    return (*[_not_run_result(call) for call in waiting if call.call_id not in answered], *new)


def _not_run_result(call: ToolCall) -> ToolMessage:
    return ToolMessage(call.call_id, NOT_RUN, call.name)
