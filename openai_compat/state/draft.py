"""The draft that a turn makes of its conversation.

It is committed only when its turn has succeeded, and before the last byte of the answer. A turn that fails, is
cancelled or runs out of time leaves the conversation as it was.
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
from ..errors import InvalidRequest, OpenAICompatError
from ..messages import AssistantMessage, Message, SystemMessage, ToolCall, ToolMessage, UserMessage
from ..policies.messages import without_drawings
from ..reducer import FinalMessage
from ..stores.port import Conversation, ConversationTurn, Item, Key
from ..wire.chat.parse import resume_of
from ..wire.conversation_rules import check_conversation
from ..wire.items.parse import parse_items
from ..wire.json import from_stored_json, stored_json
from ..wire.responses.continuation import NOT_RUN
from ..wire.serialize_messages import chat_message, compaction_item, items_of, reply_message
from .ids import new_id

Stop: TypeAlias = Callable[[OpenAICompatError], None]


class Draft:
    """One turn's uncommitted change to a conversation that it has locked. Closing it uncommitted changes nothing.

    Attributes:
        key: the conversation's.
        token: holds the lock.
        conversation: its state when it was locked.
        request: the turn's request, with all that was said before it.
        long: whether that is too long to be processed in the event loop.
        has_wanted: whether the store knows that it is to have the conversation, whoever has it.
        is_committed: whether the turn is in the store, which has unlocked the conversation with it.
    """

    conversation: Conversation
    request: AgentRequest
    long: bool = False

    def __init__(self, key: Key, unlock: Callable[[Draft], Awaitable[None]]) -> None:
        self.key = key
        # Random, not a number that grows: after a failover, a database could hand out a lower one.
        self.token = secrets.token_hex(16)
        self.has_wanted = False
        self.is_committed = False
        self._unlock = unlock
        self._new: tuple[Message, ...] = ()
        self._added: tuple[Message, ...] = ()
        self._stop: Stop | None = None
        self._stopped: OpenAICompatError | None = None
        self._woken = anyio.Event()

    def take_up(self, request: AgentRequest) -> None:
        """Append the request's new messages to the stored history."""
        history, waiting = _paired(parse_items(self.items))
        # Clients that keep the history themselves send all of it again: only what follows the last reply is new.
        self._new = _new_items(waiting, request) if history else request.messages
        messages = _named((*history, *self._new))
        # What was kept is in order, and what users and instructions say alone cannot change that.
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

    def go_on(self, request: AgentRequest) -> None:
        """Put the stored history into the request of a paused turn, which has no new messages."""
        messages = _named(_paired(parse_items(self.items))[0])
        raw = [chat_message(message) for message in messages]
        self.request = replace(request, messages=messages, raw_messages=raw, conversation_id=self.key.id, is_kept=True)

    @property
    def new(self) -> tuple[Message, ...]:
        """The messages that the request adds to the history."""
        return self._new

    @property
    def items(self) -> list[dict[str, Any]]:
        """The stored history without this turn, read anew each time."""
        return [from_stored_json(item.body) for item in self.conversation.items]

    def turn(self, reply: FinalMessage) -> ConversationTurn:
        """The new messages and the reply, as they are committed."""
        # Their calls and results are items of a type of their own, and messages do not tell them apart.
        custom = frozenset([tool.name for tool in self.request.tools if isinstance(tool, CustomTool)])
        said = reply_message(reply, custom)
        messages = (*self.request.messages, *self._added, said)
        calls = {
            c.call_id for m in messages if isinstance(m, AssistantMessage) for c in m.tool_calls if c.kind == "custom"
        }
        # Kept as items of the Responses API: chat has no place for a compaction, or for types that nobody knows yet.
        new = [item for message in self._new for item in items_of(message, new_id, calls)]
        if reply.compacted is not None:
            new.append(compaction_item(reply.compacted, new_id))
        new += items_of(said, new_id, calls)
        return ConversationTurn(self.key.id, stored_items(new), transcript(messages))

    def add(self, *messages: Message) -> None:
        """Add messages in the middle of the turn, to be committed with it."""
        self._new += messages
        self._added += messages

    def on_interrupt(self, stop: Stop) -> None:
        """Set the function that stops the turn from outside. It is called at once if the turn was interrupted already."""
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

    async def woken(self, seconds: float) -> None:
        """Wait for `wake`, at most `seconds`. Raises what the turn was interrupted with."""
        with anyio.move_on_after(seconds):
            await self._woken.wait()
        self._woken = anyio.Event()  # an anyio event cannot be cleared
        if self._stopped is not None:
            raise self._stopped

    def committed(self) -> None:
        """Note that the turn was committed."""
        self.is_committed = True

    async def close(self) -> None:
        """Unlock the conversation, whatever became of the turn."""
        self._stop = None  # the turn is over: an interrupt has nothing to stop any more
        await self._unlock(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()


def extended(request: AgentRequest, more: Sequence[Message]) -> AgentRequest:
    """Append messages to a request."""
    messages = (*request.messages, *more)
    raw = [*request.raw_messages, *[chat_message(message) for message in more]]
    return replace(request, messages=messages, raw_messages=raw, resume=resume_of(messages))


def transcript(messages: Sequence[Message]) -> str:
    """A hash of roles and texts, which is the same in whatever form a client sends the messages."""
    digest = hashlib.sha256()
    for message in messages:
        if isinstance(message, UserMessage | AssistantMessage):
            said = f"{type(message).__name__}\0{without_drawings(message.text).strip()}\0"
            digest.update(said.encode("utf-8", "surrogatepass"))  # clients can send lone surrogates
    return digest.hexdigest()


def _named(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Set the tool's name in results whose calls are in an earlier request."""
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


def _paired(history: Sequence[Message]) -> tuple[tuple[Message, ...], list[ToolCall]]:
    """Match calls and results: returns the history with every call answered, and the open calls at its end.

    Clients can add and delete single items. So results without a call are dropped, and calls without one get a result
    that says that they were not run.
    """
    kept: list[Message] = []
    waiting: dict[str, ToolCall] = {}
    deferred: dict[str, ToolCall] = {}
    for message in history:
        if isinstance(message, ToolMessage):
            # One of an earlier call that may stay open stands where it was sent: it belongs to that call all the same.
            if waiting.pop(message.call_id, None) or deferred.pop(message.call_id, None):
                kept.append(message)
            continue
        kept += [_not_run(call) for call in waiting.values() if not call.deferred]
        deferred |= {call.call_id: call for call in waiting.values() if call.deferred}
        waiting = {call.call_id: call for call in message.tool_calls} if isinstance(message, AssistantMessage) else {}
        kept.append(message)
    return tuple(kept), list(waiting.values())


def _new_items(waiting: Sequence[ToolCall], request: AgentRequest) -> tuple[Message, ...]:
    """The request's messages after the last reply, without instructions: those of the first request count.

    Open calls for which the client sends no result get one before them, since models refuse open calls.
    """
    # A client that has none of its own sends its instructions with every request: they would be in the history each time.
    new = [message for message in request.new_messages if not isinstance(message, SystemMessage)]
    if not new:
        text = "Nothing new: a request in a known conversation needs a message from the user."
        raise InvalidRequest(text, param="messages")
    answered = {message.call_id for message in new if isinstance(message, ToolMessage)}
    return (*[_not_run(call) for call in waiting if call.call_id not in answered], *new)


def _not_run(call: ToolCall) -> ToolMessage:
    return ToolMessage(call.call_id, NOT_RUN, call.name)
