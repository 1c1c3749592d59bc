"""Agent state left by turns, in memory: pauses, and unreachable states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from .bounded_tables import MemoryBounds, MemoryPart, Table, size_of_text
from .records import AgentState, Key


@dataclass(slots=True)
class PauseEntry:
    """The state of paused calls, and the time until which a caller uses it."""

    state: AgentState
    used: float = 0


class MemoryStates(MemoryPart):
    """StateStore in a table for pauses; other states are stored in their conversations and responses."""

    def __init__(self, bounds: MemoryBounds) -> None:
        super().__init__(bounds)
        self._pauses: Table[str, PauseEntry] = Table(self._shares, self._max, self._on_pause_dropped)

    async def pause(self, key: Key) -> AgentState | None:
        entry = self._find_pause(key)
        return None if entry is None else entry.state

    async def use_pause(self, key: Key, seconds: float) -> bool:
        entry = self._find_pause(key)
        if entry is None or entry.used > self._clock():
            return False
        entry.used = self._clock() + seconds
        return True

    async def return_pause(self, key: Key) -> None:
        entry = self._pauses.get(key.principal, key.id)
        if entry is not None:
            entry.used = 0

    async def end_pause(self, key: Key) -> None:
        entry = self._pauses.get(key.principal, key.id)
        if entry is not None:
            entry.used = inf

    async def gone_states(self, after: Key | None, limit: int) -> Sequence[tuple[str, AgentState]]:
        # Once at the start of a walk, not for each page: it checks all sessions.
        if after is None and self._gone:
            live = self._sessions()
            self._gone = {key: state for key, state in self._gone.items() if (key.principal, state.session) not in live}
        ordered = sorted(self._gone.items(), key=lambda one: (one[0].principal, one[0].id))
        beyond = [
            one for one in ordered if after is None or (one[0].principal, one[0].id) > (after.principal, after.id)
        ]
        return [(key.principal, state) for key, state in beyond[:limit]]

    async def forget_state(self, key: Key) -> None:
        self._gone.pop(key, None)

    def _sessions(self) -> set[tuple[str, str]]:
        """The sessions of reachable states, with their principals."""
        return {(principal, entry.state.session) for principal, _, entry in self._pauses.values_at_rest()}

    def _put_pause(self, principal: str, state: AgentState) -> None:
        self._pauses.put(principal, state.id, PauseEntry(state), size_of_text(state.body), self._clock())

    def _sweep_pauses(self) -> int:
        late = [
            (principal, name)
            for principal, name, entry in self._pauses.values_at_rest()
            if self._is_expired(entry.state.expires)
        ]
        for principal, name in late:
            self._pauses.pop(principal, name)
        return len(late)

    def _find_pause(self, key: Key) -> PauseEntry | None:
        entry = self._pauses.get(key.principal, key.id)
        return None if entry is None or entry.used == inf or self._is_expired(entry.state.expires) else entry

    def _on_pause_dropped(self, principal: str, identifier: str, entry: PauseEntry) -> None:
        self._mark_state_gone(principal, entry.state)
