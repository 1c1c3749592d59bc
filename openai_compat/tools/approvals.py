"""Asking somebody whether a call may run, and remembering what was allowed for always."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from pydantic_core import from_json

from ..agent_request import Decision, Principal
from ..backend import KeptGrants, RunContext
from ..stores.bounded_tables import Shares, Table, size_of_value
from ..wire.json import from_stored_json, stored_json
from .modes import Danger
from .patterns import Allow, allow_from_json, allow_to_json, canonical

GRANTED_BYTES, GRANTED_BYTES_EACH = 16 * 1024 * 1024, 2 * 1024 * 1024
"""Bytes of all grants in memory, and of one principal's."""


@dataclass(frozen=True, slots=True)
class Question:
    """A call that somebody has to decide about. `sandboxed` tells that it would run in the sandbox.

    `always` is what "allow always" would allow from then on, for people to see; None where each call is asked about.
    """

    call_id: str
    tool: str
    arguments: str
    danger: Danger
    principal: Principal
    conversation_id: str | None
    sandboxed: bool = False
    always: Allow | None = None

    @property
    def digest(self) -> str:
        """A hash of tool and arguments, to which an approval is bound."""
        # A decision is for what was shown: a call with other arguments needs one of its own.
        return call_digest(self.tool, self.arguments)


class Approver(Protocol):
    """Asks somebody whether a call may run."""

    async def decide(self, question: Question, context: RunContext) -> Decision | None:
        """The decision; None if it will come with a later request: the turn then pauses, and gives its slot back."""
        ...


class AskLater:
    """Leaves every decision to a later request: the turn pauses with what is needed to go on in any process."""

    async def decide(self, question: Question, context: RunContext) -> Decision | None:
        """Leave it to a later request."""
        return None


class Grants(Protocol):
    """Permissions that people have given for always, by principal and tool."""

    async def allowed(self, principal: str, tool: str) -> Sequence[Allow]:
        """The calls that are allowed."""
        ...

    async def add(self, principal: str, tool: str, allow: Allow) -> None:
        """Allow it from now on."""
        ...


class ContextGrants:
    """Grants where the server that runs the turn keeps them."""

    def __init__(self, kept: KeptGrants) -> None:
        self._kept = kept

    async def allowed(self, principal: str, tool: str) -> Sequence[Allow]:
        """The calls that are allowed."""
        return [allow_from_json(from_stored_json(grant)) for grant in await self._kept.given(principal, tool)]

    async def add(self, principal: str, tool: str, allow: Allow) -> None:
        """Allow it from now on."""
        await self._kept.give(principal, tool, stored_json(allow_to_json(allow)))


class MemoryGrants:
    """Grants that last as long as the process.

    The oldest of one principal for one tool are forgotten when they are more than `each`. When a principal has grants for
    more than `most` tools, or all have more than can be kept, those go that were given longest ago: of the principal who
    has most.
    """

    def __init__(self, most: int = 1000, each: int = 100) -> None:
        self._grants: Table[str, list[Allow]] = Table(Shares(GRANTED_BYTES, GRANTED_BYTES_EACH), most)
        self._each = each

    async def allowed(self, principal: str, tool: str) -> Sequence[Allow]:
        """The calls that are allowed."""
        return tuple(self._grants.get(principal, tool) or ())

    async def add(self, principal: str, tool: str, allow: Allow) -> None:
        """Allow it from now on."""
        # Given again, a grant becomes the newest, and is forgotten last.
        kept = [one for one in self._grants.get(principal, tool) or () if one != allow]
        given = [*kept, allow][-self._each :]
        self._grants.pop(principal, tool)
        self._grants.rest(principal, tool, given, size_of_value([asdict(one) for one in given]))


def call_digest(tool: str, arguments: str) -> str:
    """A hash of a tool and its arguments, the same however their JSON is written."""
    try:
        read = canonical(from_json(arguments or "{}"))
    except (ValueError, TypeError):  # the latter for half a character
        read = arguments
    # NUL cannot be in a tool's name, so that no other tool and arguments make the same text.
    return hashlib.sha256(f"{tool}\0{read}".encode("utf-8", "surrogatepass")).hexdigest()
