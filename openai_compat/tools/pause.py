"""The state of a turn that pauses in the middle of the model's calls: enough to go on in any process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from ..agent_request import Principal
from ..errors import AgentError, InvalidRequest
from ..events import PendingCall
from ..stores.shares import Shares, Table, size_of_value
from .conversation import RawMessage, typed_messages

REMEMBERED = 512
"""Calls of the client's tools of one caller for which pauses are kept in memory; the oldest are forgotten."""

REMEMBERED_BYTES, REMEMBERED_BYTES_EACH = 64 * 1024 * 1024, 16 * 1024 * 1024
"""Bytes of all these pauses, and of one caller's."""


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
    def from_state(cls, state: Mapping[str, Any]) -> Pause:
        """Read what `to_state` has written. Raises AgentError for anything else."""
        try:
            pause = _pause().validate_python(state)
            # The state went through a client or a store: its messages are checked like a client's.
            typed_messages(pause.messages)
        except (ValidationError, InvalidRequest) as error:
            text = "The paused turn cannot be gone on with: the agent has changed."
            raise AgentError(text, status=409, code="pause_lost") from error
        return pause


@cache
def _pause() -> TypeAdapter[Pause]:
    # Not when it is imported: it is built for longer than all of this package takes to be imported.
    return TypeAdapter(Pause)


class Pauses:
    """Remembers pauses for the client's tools, whose state the client does not carry.

    A client sends the results of its own tools with the messages that it knows; what the agent's tools have answered
    in the same turn is not among them. In another process, it is unknown, and the turn goes on without.
    """

    def __init__(self) -> None:
        shares = Shares(REMEMBERED_BYTES, REMEMBERED_BYTES_EACH)
        # By caller: to know the id of a call is no proof of having made it.
        self._pauses: Table[tuple[str, str], Pause] = Table(shares, REMEMBERED)

    def remember(self, principal: Principal, before: Iterable[RawMessage], pause: Pause) -> None:
        """Keep a pause; `before` is the conversation before what it holds itself."""
        where = _digest(before)
        size = size_of_value([pause.messages, pause.results, [[call.arguments] for call in pause.calls]])
        # Under each call: a client may send the result of one of them only.
        for call in pause.pending:
            self._pauses.rest(principal.id, (where, call.call_id), pause, size)

    def recall(self, principal: Principal, before: Iterable[RawMessage], call_ids: Iterable[str]) -> Pause | None:
        """The pause that waits for the results of these calls, in just this conversation."""
        where = _digest(before)
        found = [self._pauses.get(principal.id, (where, call_id)) for call_id in call_ids]
        return next((pause for pause in found if pause is not None), None)


def _digest(messages: Iterable[RawMessage]) -> str:
    # A hash, so that a conversation is not kept twice for being a key.
    return hashlib.sha256(to_json(list(messages), inf_nan_mode="strings", fallback=repr)).hexdigest()
