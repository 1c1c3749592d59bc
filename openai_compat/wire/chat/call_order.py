"""Serializes the client's tool calls one after another: chat clients take a call as complete once the next one begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import TypeAlias

from ...errors import AgentError
from ...events import AgentEvent, ToolCallDelta, ToolCallReady, ToolCallStarted

CallEvent: TypeAlias = ToolCallStarted | ToolCallDelta | ToolCallReady

CALL_OVERHEAD = 256
"""Overhead of a waiting call, counted like characters of its arguments."""


@dataclass(slots=True)
class _WaitingCall:
    """A call that began while another one was open, with its arguments so far."""

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
    """Holds back a call's events until every earlier call is ready.

    At most `most` characters are held; beyond that, AgentError is raised. If the turn is cut off, held calls are never
    written, since an earlier call is incomplete.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._open: str | None = None
        self._waiting: dict[str, _WaitingCall] = {}

    def show(self, event: CallEvent) -> Sequence[AgentEvent]:
        """Return the events that may be written now."""
        waiting = self._waiting.get(event.call_id)
        if waiting is not None:
            self._hold(waiting, event)
            return ()
        if not isinstance(event, ToolCallStarted):
            return (
                (event, *self._release_next())
                if isinstance(event, ToolCallReady) and self._open == event.call_id
                else (event,)
            )
        if self._open is None:
            self._open = event.call_id
            return (event,)
        # On the first piece of the next call, the SDK takes this call as complete and parses its arguments as JSON.
        self._waiting[event.call_id] = _WaitingCall(event)
        self._add_size(CALL_OVERHEAD)
        return ()

    def _hold(self, waiting: _WaitingCall, event: CallEvent) -> None:
        if isinstance(event, ToolCallDelta):
            waiting.arguments.write(event.arguments)
            self._add_size(len(event.arguments))
        elif isinstance(event, ToolCallReady):
            waiting.ready = event

    def _add_size(self, characters: int) -> None:
        self._size += characters
        if self._size > self._most:
            raise AgentError("The agent's answer is too long.", status=502, code="answer_too_large")

    def _release_next(self) -> Iterator[AgentEvent]:
        """Yield the held events of the following calls, up to and including the first that is not ready, which is now open."""
        self._open = None
        while self._waiting and self._open is None:
            call_id = next(iter(self._waiting))
            waiting = self._waiting.pop(call_id)
            self._size -= CALL_OVERHEAD + waiting.arguments.tell()
            self._open = call_id if waiting.ready is None else None
            yield from waiting.events()
