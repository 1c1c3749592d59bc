"""The client's calls one after the other, for chat: its clients take a call for complete once another one is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import TypeAlias

from ...errors import AgentError
from ...events import AgentEvent, ToolCallDelta, ToolCallReady, ToolCallStarted

CallEvent: TypeAlias = ToolCallStarted | ToolCallDelta | ToolCallReady

CALL = 256
"""What a call that waits counts for beside its arguments, in characters."""


@dataclass(slots=True)
class _Waiting:
    """A call that has begun while another one was open, with its arguments so far."""

    started: ToolCallStarted
    arguments: StringIO = field(default_factory=StringIO)
    ready: ToolCallReady | None = None

    def events(self) -> Iterator[AgentEvent]:
        yield self.started
        if arguments := self.arguments.getvalue():
            yield ToolCallDelta(self.started.call_id, arguments)
        if self.ready is not None:
            yield self.ready


class CallOrder:
    """Holds a call's events until all calls that began before it are ready.

    No more than `most` characters are held: raises AgentError. What still waits when the turn was cut off is never
    written, since a call before it is not whole.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._open: str | None = None
        self._waiting: dict[str, _Waiting] = {}

    def show(self, event: CallEvent) -> Sequence[AgentEvent]:
        """The events that may be written now."""
        waiting = self._waiting.get(event.call_id)
        if waiting is not None:
            self._hold(waiting, event)
            return ()
        if not isinstance(event, ToolCallStarted):
            return (
                (event, *self._next()) if isinstance(event, ToolCallReady) and self._open == event.call_id else (event,)
            )
        if self._open is None:
            self._open = event.call_id
            return (event,)
        # The SDK takes a call as complete once a piece of the next one comes, and reads its arguments as JSON.
        self._waiting[event.call_id] = _Waiting(event)
        self._count(CALL)
        return ()

    def _hold(self, waiting: _Waiting, event: CallEvent) -> None:
        if isinstance(event, ToolCallDelta):
            waiting.arguments.write(event.arguments)
            self._count(len(event.arguments))
        elif isinstance(event, ToolCallReady):
            waiting.ready = event

    def _count(self, characters: int) -> None:
        self._size += characters
        if self._size > self._most:
            raise AgentError("The agent's answer is too long.", status=502, code="answer_too_large")

    def _next(self) -> Iterator[AgentEvent]:
        """The events that waited for the open call: the calls after it, up to one that is not ready, which is open now."""
        self._open = None
        while self._waiting and self._open is None:
            call_id = next(iter(self._waiting))
            waiting = self._waiting.pop(call_id)
            self._size -= CALL + waiting.arguments.tell()
            self._open = call_id if waiting.ready is None else None
            yield from waiting.events()
