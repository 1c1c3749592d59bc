"""The state of a turn that pauses between the model's calls and their results, which any process can resume."""

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
    """A call of the paused step. `waits_for` is None if the call has its result."""

    call_id: str
    name: str
    arguments: str
    waits_for: Literal["result", "approval"] | None = None


@dataclass(slots=True)
class LoopUsage:
    """Usage of a turn so far: roundtrips of tools, input and output tokens, output tokens alone."""

    roundtrips: int = 0
    tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Pause:
    """A paused turn.

    Attributes:
        users: number of user messages before the pause.
        messages: the messages after the last of them, in the chat API's format; the model's calls come last.
        calls: these calls, in order.
        results: the results so far, by call id.
        used: usage of the turn.
    """

    users: int
    messages: list[RawMessage]
    calls: list[OpenCall]
    results: dict[str, str] = field(default_factory=dict[str, str])
    used: LoopUsage = field(default_factory=LoopUsage)

    @property
    def pending(self) -> tuple[PendingCall, ...]:
        """The calls that wait for a result or a decision."""
        return tuple([PendingCall(c.call_id, c.name, c.arguments, c.waits_for) for c in self.calls if c.waits_for])

    def to_state(self) -> dict[str, Any]:
        """Return the pause as JSON; the inverse of `from_state`."""
        state: dict[str, Any] = _pause_adapter().dump_python(self, mode="json")
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> tuple[Pause, tuple[Message, ...]]:
        """Parse the output of `to_state`, and its messages into typed ones. Raises AgentError for anything else."""
        try:
            pause = _pause_adapter().validate_python(state)
            # The state comes from a client or a store: its messages are checked like a client's.
            typed = typed_messages(pause.messages)
        except (ValidationError, InvalidRequest) as error:
            text = "The paused turn cannot be gone on with: the agent has changed."
            raise AgentError(text, status=409, code="pause_lost") from error
        return pause, typed


@cache
def _pause_adapter() -> TypeAdapter[Pause]:
    # Not at import time: building it takes longer than importing all of this package.
    return TypeAdapter(Pause)
