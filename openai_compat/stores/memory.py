"""The memory engine: all state in this process, bounded, and lost when the process ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ..policies.limits import LEASE
from .bounded_tables import MAX_BYTES, MAX_BYTES_PER_PRINCIPAL, MemoryBounds
from .memory_approvals import MemoryApprovals
from .memory_completions import MemoryCompletions
from .memory_conversations import ConversationEntry, MemoryConversations
from .memory_files import MemoryFiles
from .memory_grants import MemoryGrantStore
from .memory_limits import MemoryLimits
from .memory_outbox import MemoryOutbox
from .memory_responses import MemoryResponses
from .memory_settings import MemorySettings
from .memory_spending import MemorySpending
from .memory_states import MemoryStates
from .memory_threads import MemoryThreads
from .port import RETENTION
from .records import Renewal, TurnCommit


class MemoryStore(
    MemoryConversations,
    MemoryResponses,
    MemoryCompletions,
    MemoryFiles,
    MemoryApprovals,
    MemoryGrantStore,
    MemoryStates,
    MemoryOutbox,
    MemorySettings,
    MemorySpending,
    MemoryThreads,
    MemoryLimits,
):
    """All state in memory.

    At most `max_items` of each kind are stored per principal; the least recently used is dropped first. Conversations,
    responses and answers to idempotency keys (kept for at least a day) are also dropped after `ttl` idle seconds.

    All kinds together use at most `max_bytes`, those of one principal `max_bytes_per_principal`. Above its own limit, a
    principal loses its least recently used data of any kind. Above the total limit, the principal with the most data loses
    some, so that nobody can displace those with less. Data of a running turn is neither dropped nor counted. A conversation
    that would exceed a principal's limit is refused (409 `conversation_full`).

    Locks do not expire: they end with this process. `clock` returns seconds.
    """

    # Each of several workers would have its own data, so they are refused.
    shared = False

    def __init__(
        self,
        max_items: int = 1000,
        ttl: float = 1800,
        clock: Callable[[], float] = time.time,
        *,
        max_bytes: int = MAX_BYTES,
        max_bytes_per_principal: int = MAX_BYTES_PER_PRINCIPAL,
    ) -> None:
        super().__init__(MemoryBounds(max_items, ttl, clock, max_bytes, max_bytes_per_principal))

    async def commit(self, outcome: TurnCommit) -> bool:  # noqa: C901  (one test for each kind of record)
        if outcome.token in self._ended:  # a repeated commit, or a turn that has lost a lock
            return self._ended[outcome.token]
        conversation = (
            None if outcome.conversation is None else self._locked_conversation(outcome, outcome.conversation)
        )
        response = None if outcome.response is None else self._held_response(outcome, outcome.response)
        # Everything is checked before anything is written, and none of the awaits suspends.
        if conversation is False or response is False:
            return False
        if outcome.conversation is not None and isinstance(conversation, ConversationEntry):
            conversation.state = next((s for s in outcome.states if s.of == "conversation"), conversation.state)
            self._append_turn(outcome.principal, outcome.conversation, conversation)
        if outcome.response is not None:
            self._put_response(outcome, outcome.response, response)
        if outcome.completion is not None:
            await self.put_completion(outcome.principal, outcome.completion)
        for approval in outcome.approvals:
            await self.ask(outcome.principal, approval)
        for state in outcome.states:
            if state.of == "pause":
                self._put_pause(outcome.principal, state)
            elif state.of == "gone":
                self._mark_state_gone(outcome.principal, state)
        if outcome.notices:
            self._write_notices(outcome.notices)
        if outcome.spends:
            self._add_spends(outcome.principal, outcome.spends)
        if outcome.charges:
            self._charge(outcome.principal, outcome.charges)
        self._end_turn(outcome.token, committed=True)
        return True

    async def renew(self, tokens: Sequence[str], lease: float = LEASE) -> Renewal:
        """Return the tokens that hold anything, and those of cancelled and superseded turns. Locks do not expire here."""
        wanted = set(tokens)
        responses = self._responses.held_values()
        conversations, now = self._conversations.held_values(), self._clock()
        held: set[str | None] = {entry.token for entry in conversations}
        held |= {entry.token for entry in responses}
        held |= {claimed.token for claimed in self._claims.held_values()}
        held |= {entry.token for entry in self._threads.values()}
        held |= {token for slots in self._slots.values() for token in slots}
        cancelled = {entry.token for entry in responses if entry.cancel}
        superseded = {c.token for c in conversations if c.next not in ("", c.token) and c.next_until > now}
        lost = {token for token in wanted if not self._ended.get(token, True)}
        return Renewal(_tokens(held & wanted - lost), _tokens(cancelled & wanted), _tokens(superseded & wanted))

    async def sweep(self, retention: float = RETENTION) -> int:
        swept = self._sweep_conversations() + self._sweep_responses() + self._sweep_claims()
        return swept + self._sweep_pauses() + self._drop_expired_files()

    def _sessions(self) -> set[tuple[str, str]]:
        conversations = [(principal, entry.state) for principal, entry in self._conversations.all_values()]
        responses = [(principal, entry.state) for principal, entry in self._responses.all_values()]
        others = [(principal, state.session) for principal, state in (*conversations, *responses) if state is not None]
        return super()._sessions() | set(others)

    async def check(self) -> None:
        """Return at once: memory is always available."""

    async def aclose(self) -> None:
        """Do nothing: the data lasts as long as the store."""


def _tokens(found: set[str | None]) -> frozenset[str]:
    return frozenset([token for token in found if token is not None])
