"""Approvals: asking a person whether a call may run, and always-allow grants."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from pydantic_core import from_json

from ..agent_request import Decision, Principal
from ..backend import RunContext, ToolGrants
from ..stores.bounded_tables import Shares, Table, size_of_value
from ..wire.json import from_stored_json, stored_json
from .modes import Danger
from .patterns import Allow, allow_from_json, allow_to_json, canonical_json

GRANTED_BYTES, GRANTED_BYTES_EACH = 16 * 1024 * 1024, 2 * 1024 * 1024
"""Bytes of all grants in memory, and of one principal's grants."""


@dataclass(frozen=True, slots=True)
class Question:
    """A call that needs a person's decision. `sandboxed` is True if it would run in the sandbox.

    `always` is the grant that "allow always" would create, to be shown to people; None if each call must be approved.
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
        """A hash of tool and arguments, which binds an approval to this call."""
        # A decision only covers what was shown: a call with other arguments needs another one.
        return call_digest(self.tool, self.arguments)


class Approver(Protocol):
    """Asks a person whether a call may run."""

    async def decide(self, question: Question, context: RunContext) -> Decision | None:
        """Return the decision; None if a later request will bring it: the turn then pauses and releases its slot."""
        ...


class AskLater:
    """Leaves every decision to a later request: the turn pauses with a state that any process can resume."""

    async def decide(self, question: Question, context: RunContext) -> Decision | None:
        """Return None: a later request decides."""
        return None


class Grants(Protocol):
    """Always-allow grants, by principal and tool."""

    async def allowed(self, principal: str, tool: str) -> Sequence[Allow]:
        """Return the calls that are granted."""
        ...

    async def add(self, principal: str, tool: str, allow: Allow) -> None:
        """Add a grant."""
        ...


class ContextGrants:
    """Grants in the storage of the server that runs the turn."""

    def __init__(self, store: ToolGrants) -> None:
        self._store = store

    async def allowed(self, principal: str, tool: str) -> Sequence[Allow]:
        """Return the calls that are granted."""
        return [allow_from_json(from_stored_json(grant)) for grant in await self._store.find(principal, tool)]

    async def add(self, principal: str, tool: str, allow: Allow) -> None:
        """Add a grant."""
        await self._store.add(principal, tool, stored_json(allow_to_json(allow)))


class MemoryGrants:
    """Grants in memory, which last as long as the process.

    Beyond `each` grants of one principal for one tool, the oldest are evicted. If a principal has grants for more than `most`
    tools, or all grants exceed the memory limit, the oldest grants of the principal with the most are evicted.
    """

    def __init__(self, most: int = 1000, each: int = 100) -> None:
        self._grants: Table[str, list[Allow]] = Table(Shares(GRANTED_BYTES, GRANTED_BYTES_EACH), most)
        self._each = each

    async def allowed(self, principal: str, tool: str) -> Sequence[Allow]:
        """Return the calls that are granted."""
        return tuple(self._grants.get(principal, tool) or ())

    async def add(self, principal: str, tool: str, allow: Allow) -> None:
        """Add a grant."""
        # A repeated grant becomes the newest, and is evicted last.
        kept = [one for one in self._grants.get(principal, tool) or () if one != allow]
        given = [*kept, allow][-self._each :]
        self._grants.pop(principal, tool)
        self._grants.put(principal, tool, given, size_of_value([asdict(one) for one in given]))


def call_digest(tool: str, arguments: str) -> str:
    """Return a hash of a tool and its arguments, independent of how their JSON is formatted."""
    try:
        read = canonical_json(from_json(arguments or "{}"))
    except (ValueError, TypeError):  # TypeError for a lone surrogate
        read = arguments
    # NUL cannot occur in a tool's name, so different calls cannot produce the same text.
    return hashlib.sha256(f"{tool}\0{read}".encode("utf-8", "surrogatepass")).hexdigest()
