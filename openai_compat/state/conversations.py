"""Server-side conversations: one turn at a time in each, and the draft that a turn makes of it.

A draft is committed only when its turn has succeeded, and before the last byte of the answer. A turn that fails, is
cancelled or runs out of time leaves the conversation as it was.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias

import anyio

from ..aio.off_loop import MANY, off_loop
from ..backend import AgentRequest, CustomTool
from ..errors import Conflict, InvalidRequest, OpenAICompatError
from ..messages import AssistantMessage, Message, SystemMessage, ToolCall, ToolMessage, UserMessage
from ..policies.conversations import Conversations, WhenBusy
from ..policies.limits import LEASE
from ..policies.messages import without_drawings
from ..reducer import FinalMessage
from ..stores.port import Conversation, ConversationTurn, Item, Key, Store
from ..wire.chat.parse import resume_of
from ..wire.chat_messages import chat_message, reply_message
from ..wire.conversation_rules import check_conversation
from ..wire.items.parse import parse_items
from ..wire.items.serialize import compaction_item, items_of
from ..wire.json import from_stored_json, stored_json
from ..wire.responses.continuation import NOT_RUN
from .degraded import give_back
from .leases import Leases

Stop: TypeAlias = Callable[[OpenAICompatError], None]

LOOK_AGAIN = 1.0
"""Seconds after which those who wait for a conversation look by themselves: another process may have had it."""


class ConversationLocks:
    """Gives each conversation of a store to one turn at a time. Every server has its own.

    Turns of other processes are kept out by the store: `leases` renew what this one's hold there, if it is shared.
    """

    def __init__(self, settings: Conversations, store: Store, leases: Leases | None) -> None:
        self.store = store
        self._busy: WhenBusy = settings.busy
        self._queue = settings.queue
        self._by_transcript = settings.by_transcript
        self._leases = leases
        self._running: dict[Key, Draft] = {}
        self._waiting: dict[Key, list[Draft]] = {}

    async def open(
        self, principal: str, identifier: str | None, request: AgentRequest, *, long: bool = False
    ) -> Draft | None:
        """Begin a turn in the conversation that `request` belongs to; None if it belongs to none.

        `long` if there is more in the request than the event loop should look at.

        Raises Conflict (409 `conversation_busy`), and InvalidRequest if there is nothing new from the user.
        """
        if identifier is None:
            if not self._by_transcript:
                return None
            identifier = await self._found(principal, request, long=long)
        draft = await self.lock(Key(principal, identifier))
        try:
            draft.long = long or len(draft.conversation.items) > MANY
            await off_loop(partial(draft.take_up, request), long=draft.long)
        except BaseException:
            await draft.close()
            raise
        return draft

    async def lock(self, key: Key) -> Draft:
        """Have a conversation, known or new, for one turn. Raises Conflict (409 `conversation_busy`)."""
        draft = Draft(self, key)
        try:
            draft.conversation = await self._lock(draft)
        except BaseException:
            await draft.close()  # a cancellation may have met the store after it had locked
            raise
        if self._leases is not None:
            self._leases.hold(draft.token, draft.interrupt)
        return draft

    async def _found(self, principal: str, request: AgentRequest, *, long: bool) -> str:
        before = request.messages[: len(request.messages) - len(request.new_messages)]
        said = await off_loop(partial(transcript, before), long=long)
        found = await self.store.find(principal, said) if before else None
        return found[0] if found is not None and found[1] else _new_id("conv_")

    @property
    def _lease(self) -> float:
        return LEASE if self._leases is None else self._leases.seconds

    async def _lock(self, draft: Draft) -> Conversation:
        found = None
        if draft.key not in self._waiting:  # those who came before are served before
            found = await self.store.begin(draft.key, draft.token, self._lease)
        if found is None and self._busy != "reject":
            found = await self._wait(draft)
        if found is None:
            text = "Another turn is running in this conversation."
            raise Conflict(text, code="conversation_busy", should_retry=False)
        self._running[draft.key] = draft
        return found

    async def _wait(self, draft: Draft) -> Conversation | None:
        """Stand in the queue: woken when a turn ends, looking by itself now and then for other processes' turns."""
        queue = self._waiting.setdefault(draft.key, [])
        if self._busy == "supersede":
            self._supersede(draft.key)
        queue.append(draft)
        try:
            with anyio.move_on_after(self._queue):
                while True:
                    await draft.woken(LOOK_AGAIN)
                    if queue[0] is draft:
                        found = await self.store.begin(draft.key, draft.token, self._lease)
                        if found is not None:
                            return found
            return None
        finally:
            queue.remove(draft)
            if queue:
                queue[0].wake()
            else:
                del self._waiting[draft.key]

    def _supersede(self, key: Key) -> None:
        """Stop the turn that runs, and those that wait for it."""
        running = self._running.get(key)
        for draft in (*([running] if running is not None else []), *self._waiting[key]):
            draft.interrupt(_superseded())

    def left(self, draft: Draft) -> None:
        """A turn has ended: the next one in the queue may try."""
        if self._leases is not None:
            self._leases.drop(draft.token)
        if self._running.get(draft.key) is draft:
            del self._running[draft.key]
        if draft.key in self._waiting:
            self._waiting[draft.key][0].wake()


class Draft:
    """One turn's uncommitted change to a conversation. Leaving it without `commit` changes nothing.

    Attributes:
        conversation: how it was when it was locked.
        request: the turn's request, with the whole conversation in it.
        long: whether that is more than the event loop should look at.
    """

    conversation: Conversation
    request: AgentRequest
    long: bool = False

    def __init__(self, locks: ConversationLocks, key: Key) -> None:
        self.key = key
        self.token = secrets.token_hex(16)
        self._locks = locks
        self._new: tuple[Message, ...] = ()
        self._stop: Stop | None = None
        self._stopped: OpenAICompatError | None = None
        self._committed = False
        self._woken = anyio.Event()

    def take_up(self, request: AgentRequest) -> None:
        """Put the request behind what was said before: of a known conversation only what is new in it counts."""
        history, waiting = _paired(parse_items(self.items))
        self._new = _new_items(waiting, request) if history else request.messages
        messages = _named((*history, *self._new))
        check_conversation(messages)
        raw = [chat_message(message) for message in messages] if history else request.raw_messages
        self.request = replace(
            request,
            messages=messages,
            raw_messages=raw,
            resume=resume_of(messages),
            conversation_id=self.key.id,
        )

    def go_on(self, request: AgentRequest) -> None:
        """Put what was said before into the request: nothing is new, a turn that has paused goes on."""
        messages = _named(_paired(parse_items(self.items))[0])
        raw = [chat_message(message) for message in messages]
        self.request = replace(request, messages=messages, raw_messages=raw, conversation_id=self.key.id)

    @property
    def new(self) -> tuple[Message, ...]:
        """What the request adds to what was said before."""
        return self._new

    @property
    def items(self) -> list[dict[str, Any]]:
        """What was said before."""
        return [from_stored_json(item.body) for item in self.conversation.items]

    def turn(self, reply: FinalMessage) -> ConversationTurn:
        """What the turn adds to the conversation: what is new, and the reply."""
        custom = frozenset([tool.name for tool in self.request.tools if isinstance(tool, CustomTool)])
        said = reply_message(reply, custom)
        messages = (*self.request.messages, said)
        calls = {
            c.call_id for m in messages if isinstance(m, AssistantMessage) for c in m.tool_calls if c.kind == "custom"
        }
        new = [item for message in self._new for item in items_of(message, _new_id, calls)]
        if reply.compacted is not None:
            new.append(compaction_item(reply.compacted, _new_id))
        new += items_of(said, _new_id, calls)
        return ConversationTurn(self.key.id, stored_items(new), transcript(messages))

    def add(self, *messages: Message) -> None:
        """What was said in the middle of the turn: it is kept with the turn."""
        self._new += messages
        self.request = extended(self.request, messages)

    def on_interrupt(self, stop: Stop) -> None:
        """How to stop the turn from outside; called at once if that was asked for already."""
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
        """It may be this turn's turn, if it waits for it."""
        self._woken.set()

    async def woken(self, seconds: float) -> None:
        """Wait for `wake`, but no longer than so many seconds. Raises what the turn was interrupted with."""
        with anyio.move_on_after(seconds):
            await self._woken.wait()
        self._woken = anyio.Event()
        if self._stopped is not None:
            raise self._stopped

    def committed(self) -> None:
        """The turn is in the store, which has given the conversation free with that."""
        self._committed = True

    async def close(self) -> None:
        """Give the conversation free, whatever became of the turn."""
        self._stop = None
        if self._committed:
            self._locks.left(self)
        else:
            await give_back(self._give_free, "conversation given free")

    async def _give_free(self) -> None:
        try:
            await self._locks.store.release(self.key, self.token)
        finally:
            self._locks.left(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()


def extended(request: AgentRequest, more: Sequence[Message]) -> AgentRequest:
    """The request with more messages at its end."""
    messages = (*request.messages, *more)
    raw = [*request.raw_messages, *[chat_message(message) for message in more]]
    return replace(request, messages=messages, raw_messages=raw, resume=resume_of(messages))


def transcript(messages: Sequence[Message]) -> str:
    """A hash of what was said: roles and texts, so that it is the same however a client writes the messages."""
    digest = hashlib.sha256()
    for message in messages:
        if isinstance(message, UserMessage | AssistantMessage):
            said = f"{type(message).__name__}\0{without_drawings(message.text).strip()}\0"
            digest.update(said.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _named(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The same with the tools' names on results whose calls are in an earlier request."""
    names = {c.call_id: c.name for m in messages if isinstance(m, AssistantMessage) for c in m.tool_calls}
    return tuple(
        [
            replace(m, name=names.get(m.call_id, m.name)) if isinstance(m, ToolMessage) and not m.name else m
            for m in messages
        ]
    )


def stored_items(items: Sequence[dict[str, Any]]) -> tuple[Item, ...]:
    """Items as they are stored."""
    return tuple([Item(item["id"], stored_json(item)) for item in items])


def _new_id(prefix: str) -> str:
    return prefix + secrets.token_hex(16)


def _paired(history: Sequence[Message]) -> tuple[tuple[Message, ...], list[ToolCall]]:
    """What was said before with calls and results in pairs, and the calls at its end that still wait for theirs.

    Items can be added and taken out one by one: results that answer nothing are left out, calls that were passed over
    get one that says so.
    """
    kept: list[Message] = []
    waiting: dict[str, ToolCall] = {}
    deferred: dict[str, ToolCall] = {}
    for message in history:
        if isinstance(message, ToolMessage):
            if waiting.pop(message.call_id, None) or deferred.pop(message.call_id, None):
                kept.append(message)
            continue
        kept += [_not_run(call) for call in waiting.values() if not call.deferred]
        deferred |= {call.call_id: call for call in waiting.values() if call.deferred}
        waiting = {call.call_id: call for call in message.tool_calls} if isinstance(message, AssistantMessage) else {}
        kept.append(message)
    return tuple(kept), list(waiting.values())


def _new_items(waiting: Sequence[ToolCall], request: AgentRequest) -> tuple[Message, ...]:
    """What the request adds: its messages after the last reply, without instructions, which were settled at first.

    Before them come results for the calls that wait and that the client never ran, since it sends something else
    instead: models refuse open calls.
    """
    new = [message for message in request.new_messages if not isinstance(message, SystemMessage)]
    if not new:
        text = "Nothing new: a request in a known conversation needs a message from the user."
        raise InvalidRequest(text, param="messages")
    answered = {message.call_id for message in new if isinstance(message, ToolMessage)}
    return (*[_not_run(call) for call in waiting if call.call_id not in answered], *new)


def _not_run(call: ToolCall) -> ToolMessage:
    return ToolMessage(call.call_id, NOT_RUN, call.name)


def _superseded() -> Conflict:
    return Conflict("A newer message in this conversation took its place.", code="superseded", should_retry=False)
