"""Everything the server promises at its edge: id, promise, source. Tests name the ids they prove.

`test_requirements.py` fails when a promise has no test, or a test names a promise that is not here.
Sources: W = the wire as OpenAI documents it and clients need it, D = our design, T = the list of faults to survive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

Test = TypeVar("Test", bound=Callable[..., Any])


@dataclass(frozen=True)
class Requirement:
    """One promise."""

    promise: str
    source: str


REQUIREMENTS: dict[str, Requirement] = {
    "chat.plain": Requirement("a plain answer is the fold of the agent's events", "W A1"),
    "chat.stream": Requirement(
        "a stream has the role first, one finish_reason, then [DONE], and nothing after it", "W A1"
    ),
    "chat.stream.live": Requirement("a piece is on its way before the agent makes the next one", "T 29"),
    "conversation.memory": Requirement("a turn sees what was said before in its conversation", "D 6"),
    "conversation.commit": Requirement("a turn that fails, is cancelled or left changes nothing", "D 5"),
    "conversation.busy": Requirement("a second turn at once: 409 conversation_busy, not to be retried", "D 5"),
    "conversation.busy.queue": Requirement("a second turn may wait for the first", "D 5"),
    "conversation.busy.supersede": Requirement("a second turn may stop the first and take its place", "D 5"),
    "conversation.new_only": Requirement("of a known conversation only new items count, none is a 400", "D 5"),
    "conversation.owner": Requirement("ids belong to principals", "T 74"),
    "conversation.id": Requirement("ids are 1 to 256 printable characters", "T 103"),
    "conversation.sources": Requirement("the id comes from a configurable list of places", "W B4.11"),
    "conversation.api": Requirement("a conversation can be read and deleted", "D 6"),
    "conversation.transcript": Requirement("stateless clients are found by their transcript; branches apart", "D 6"),
    "conversation.tools": Requirement("open client calls are resumed, or answered when they were passed over", "D 4"),
    "idempotency.replay": Requirement("the same key and body: the first answer again, failures too", "T 133"),
    "idempotency.other": Requirement("the same key with another body is a 422", "T 134"),
    "idempotency.once": Requirement("five at once are one run", "T 135"),
    "idempotency.refused": Requirement("what was refused before its agent started is not kept", "D 5"),
    "idempotency.lost": Requirement("a run whose answer was lost is not repeated", "D 5"),
    "idempotency.key": Requirement("keys are 1 to 255 printable characters", "T 1"),
    "principal.models": Requirement("a key opens only its principal's models", "D 5"),
    "auth.disabled": Requirement("a key source that yields nothing disables the server", "T 80"),
    "auth.public": Requirement("the list of models can be public", "T 84"),
    "cors.conversation": Requirement("pages may send and read the conversation header", "D 5"),
    "model.unknown": Requirement("unknown models can fall back to the first agent, and are echoed", "D 5"),
    "messages.history": Requirement("history can be cut to the last user message", "D 5"),
    "messages.system": Requirement("system messages can be ignored or refused", "D 5"),
    "messages.presentation": Requirement("our own drawings are stripped from replayed history", "W B4.14"),
    "admission.bounds": Requirement("slots are bounded in all, per agent and per principal", "D 5"),
    "admission.queue": Requirement("requests can queue, in order, with a deadline", "D 5"),
    "admission.busy": Requirement("a busy server can answer as the assistant", "D 5"),
    "deadline.silence": Requirement("silence before the first event and between events is bounded", "D 5"),
    "disconnect.cancel": Requirement("by default a turn ends with its client", "D 5"),
    "disconnect.finish": Requirement("a turn can finish without its client, and is kept", "D 5"),
    "disconnect.detach": Requirement("a detached turn has a grace", "D 5"),
    "housekeeping.recognised": Requirement("chat programs' own requests never reach the agent or the store", "W B4.11"),
    "housekeeping.hook": Requirement("a hook can answer them", "W B4.11"),
    "housekeeping.people": Requirement("what people write is not taken for one", "W B4.11"),
    "stored.lifecycle": Requirement("stored completions: list, get, update, delete, messages", "W A1"),
    "stored.paging": Requirement("pages are checked", "W A1"),
}


def requirement(identifier: str) -> Callable[[Test], Test]:
    """Mark a test as proof of a promise."""

    def mark(test: Test) -> Test:
        return pytest.mark.requirement(identifier)(test)

    return mark
