"""The memory engine: everything in this process, bounded, gone when it ends."""

from __future__ import annotations

from collections.abc import Sequence

from ..policies.limits import LEASE
from .memory_approvals import MemoryApprovals
from .memory_completions import MemoryCompletions
from .memory_conversations import Kept, MemoryConversations
from .memory_files import MemoryFiles
from .memory_limits import MemoryLimits
from .memory_responses import MemoryResponses
from .port import RETENTION, Renewal, TurnOutcome


class MemoryStore(MemoryConversations, MemoryResponses, MemoryCompletions, MemoryFiles, MemoryApprovals, MemoryLimits):
    """State in tables.

    Of each principal and kind, at most `max_items` are kept; the one that was used longest ago goes first. A conversation,
    a response or the answer to an idempotency key (a day at least) that was idle for `ttl` seconds goes too.

    All kinds together hold `max_bytes`, of one principal `max_bytes_per_principal`; a principal who wants more loses
    what it used longest ago, whatever kind it is. When all want more, that of the one who holds most goes: nobody's use
    takes the place of those who hold less. Nothing that belongs to a running turn is dropped, or counted before it is
    over. A conversation that would be larger than a principal's part is refused (409 `conversation_full`).

    Locks do not expire: they die with the process that holds them. `clock` gives seconds.
    """

    shared = False

    async def commit(self, outcome: TurnOutcome) -> bool:
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
        responses = self._responses.held()
        held: set[str | None] = {kept.token for kept in self._conversations.held()}
        held |= {kept.token for kept in responses}
        held |= {claimed.token for claimed in self._claims.held()}
        held |= {token for slots in self._slots.values() for token in slots}
        cancelled = {kept.token for kept in responses if kept.cancel}
        lost = {token for token in wanted if not self._ended.get(token, True)}
        return Renewal(_tokens(held & wanted - lost), _tokens(cancelled & wanted))

    async def sweep(self, retention: float = RETENTION) -> int:
        """Forget what is too old."""
        return self._sweep_conversations() + self._sweep_responses() + self._sweep_claims() + self._drop_expired_files()

    async def check(self) -> None:
        """Always there."""

    async def aclose(self) -> None:
        """Nothing to let go."""


def _tokens(found: set[str | None]) -> frozenset[str]:
    return frozenset([token for token in found if token is not None])
