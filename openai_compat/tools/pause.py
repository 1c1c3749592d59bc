"""The state of a turn that pauses in the middle of the model's calls: enough to go on in any process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from ..errors import AgentError, InvalidRequest
from ..events import PendingCall
from ..messages import Message
from .conversation import RawMessage, typed_messages


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call of the step that has paused. `waits_for` None is one that has its result."""

    call_id: str
    name: str
    arguments: str
    waits_for: Literal["result", "approval"] | None = None


@dataclass(slots=True)
class Used:
    """The use of a turn so far: rounds of tools, tokens of input and output, tokens of output alone."""

    roundtrips: int = 0
    tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Pause:
    """A paused turn.

    Attributes:
        users: how many messages of the user came before it.
        messages: what has followed the last of them, as the chat API writes it; the model's calls come last.
        calls: these calls, in order.
        results: the results that are there already, by call id.
        used: what the turn has used.
    """

    users: int
    messages: list[RawMessage]
    calls: list[OpenCall]
    results: dict[str, str] = field(default_factory=dict[str, str])
    used: Used = field(default_factory=Used)

    @property
    def pending(self) -> tuple[PendingCall, ...]:
        """The calls that wait for a result or a decision."""
        return tuple([PendingCall(c.call_id, c.name, c.arguments, c.waits_for) for c in self.calls if c.waits_for])

    def to_state(self) -> dict[str, Any]:
        """The pause as JSON, which `from_state` reads."""
        state: dict[str, Any] = _pause().dump_python(self, mode="json")
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> tuple[Pause, tuple[Message, ...]]:
        """Read what `to_state` has written, and its messages as typed ones. Raises AgentError for anything else."""
        try:
            pause = _pause().validate_python(state)
            # The state went through a client or a store: its messages are checked like a client's.
            typed = typed_messages(pause.messages)
        except (ValidationError, InvalidRequest) as error:
            text = "The paused turn cannot be gone on with: the agent has changed."
            raise AgentError(text, status=409, code="pause_lost") from error
        return pause, typed


@cache
def _pause() -> TypeAdapter[Pause]:
    # Not when it is imported: it is built for longer than all of this package takes to be imported.
    return TypeAdapter(Pause)
