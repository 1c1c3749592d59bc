"""The memory engine: everything in this process, bounded, gone when it ends."""

from __future__ import annotations

from collections.abc import Sequence

from .memory_approvals import MemoryApprovals
from .memory_completions import MemoryCompletions
from .memory_conversations import Kept, MemoryConversations
from .memory_files import MemoryFiles
from .memory_limits import MemoryLimits
from .memory_responses import MemoryResponses
from .port import (
    LEASE,
    RETENTION,
    Outcome,
    Renewal,
)


class MemoryStore(MemoryConversations, MemoryResponses, MemoryCompletions, MemoryFiles, MemoryApprovals, MemoryLimits):
    """State in dictionaries.

    Each kind holds at most `max_items`; the one that was used longest ago goes first, and any that was idle for `ttl`
    seconds. Nothing that belongs to a running turn is dropped. Locks do not expire: they die with the process that
    holds them. `clock` gives seconds.
    """

    shared = False

    async def commit(self, outcome: Outcome) -> bool:
        """Write what a turn leaves behind, if `token` holds what it needs."""
        if outcome.token in self._ended:
            return self._ended[outcome.token]
        conversation = self._locked(outcome)
        response = self._held(outcome)
        if conversation is False or response is False:
            return False
        if outcome.conversation is not None and isinstance(conversation, Kept):
            self._append_turn(outcome.principal, outcome.conversation, conversation)
        if outcome.response is not None:
            self._keep_response(outcome, outcome.response, response)
        if outcome.completion is not None:
            await self.put_completion(outcome.principal, outcome.completion)
        for approval in outcome.approvals:
            await self.ask(outcome.principal, approval)
        self._end_turn(outcome.token, committed=True)
        return True

    async def renew(self, tokens: Sequence[str], lease: float = LEASE) -> Renewal:
        """Locks do not expire here; this tells which are held, and which turns are to stop."""
        wanted = set(tokens)
        held = {kept.token for kept in self._conversations.values()} & wanted
        responses = [kept for kept in self._responses.values() if kept.token in wanted]
        held |= {kept.token for kept in responses}
        held |= {claimed.token for claimed in self._claims.values() if claimed.replay is None} & wanted
        held |= {token for slots in self._slots.values() for token in slots} & wanted
        cancelled = {kept.token for kept in responses if kept.cancel}
        lost = {token for token in wanted if not self._ended.get(token, True)}
        return Renewal(_tokens(held - lost), _tokens(cancelled))

    async def sweep(self, retention: float = RETENTION) -> int:
        """Forget what is too old."""
        before = len(self._conversations) + len(self._responses) + len(self._files)
        self._sweep_conversations()
        self._sweep_responses()
        await self._drop_expired_files()
        return before - len(self._conversations) - len(self._responses) - len(self._files)

    async def check(self) -> None:
        """Always there."""

    async def aclose(self) -> None:
        """Nothing to let go."""


def _tokens(found: set[str | None] | set[str]) -> frozenset[str]:
    return frozenset([token for token in found if token is not None])
