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
}


def requirement(identifier: str) -> Callable[[Test], Test]:
    """Mark a test as proof of a promise."""

    def mark(test: Test) -> Test:
        return pytest.mark.requirement(identifier)(test)

    return mark
