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
}


def requirement(identifier: str) -> Callable[[Test], Test]:
    """Mark a test as proof of a promise."""

    def mark(test: Test) -> Test:
        return pytest.mark.requirement(identifier)(test)

    return mark
