"""Responses in memory, with their event logs."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ..policies.limits import LEASE
from .bounded_tables import ITEM_OVERHEAD, MemoryBounds, Table, size_of_items, size_of_text
from .memory_outbox import MemoryOutbox
from .port import LOG_BYTES
from .records import AgentState, Chain, Events, Key, StoredResponse, TurnCommit, WebhookNotice


@dataclass(slots=True)
class ResponseEntry:
    """A stored response."""

    stored: StoredResponse
    touched: float
    token: str | None = None
    events: deque[Events] = field(default_factory=deque[Events])
    size: int = 0
    """Bytes of the events."""
    cancel: bool = False
    state: AgentState | None = None

    def add(self, events: Events) -> None:
        """Append to the log, and drop its oldest events if it is too long."""
        self.events.append(events)
        self.size += _size_of_events(events)
        # A log grows while its turn runs, and data held by turns is not counted in the shares.
        while self.size > LOG_BYTES and len(self.events) > 1:
            self.size -= _size_of_events(self.events.popleft())


class MemoryResponses(MemoryOutbox):
    """ResponseStore in a table, each response with its event log."""

    def __init__(self, bounds: MemoryBounds) -> None:
        super().__init__(bounds)
        self._responses: Table[str, ResponseEntry] = Table(self._shares, self._max, self._on_response_dropped)

    async def begin_response(self, principal: str, response: StoredResponse, token: str, lease: float = LEASE) -> None:
        self._sweep_responses(principal)
        self._responses.hold(principal, response.id, ResponseEntry(response, self._clock(), token))

    async def append(self, batches: Sequence[tuple[Key, str, Events]]) -> frozenset[str]:
        return frozenset([token for key, token, events in batches if self._append(key, token, events)])

    def _append(self, key: Key, token: str, events: Events) -> bool:
        entry = self._responses.get(key.principal, key.id)
        if entry is None or entry.token != token:
            return False
        entry.add(events)
        if entry.stored.status == "queued":
            entry.stored = replace(entry.stored, status="in_progress")
        return True

    async def end_response(
        self, principal: str, response: StoredResponse, events: Events | None, notices: Sequence[WebhookNotice] = ()
    ) -> bool:
        """Return False: a response in memory cannot outlive its process."""
        return False

    async def take_response(
        self, principal: str, response: StoredResponse, events: Events | None, notices: Sequence[WebhookNotice] = ()
    ) -> bool:
        entry = self._responses.get(principal, response.id)
        if entry is None or not entry.stored.running:
            return False
        self._end_turn(entry.token, committed=False)
        self._settle_response(principal, entry, response, events)
        self._write_notices(notices)
        return True

    async def lost_responses(self, limit: int) -> Sequence[Key]:
        """Return nothing: a response in memory cannot outlive its process."""
        return ()

    def _settle_response(
        self, principal: str, entry: ResponseEntry, response: StoredResponse, events: Events | None
    ) -> None:
        # Clearing the token blocks all further writes: the first outcome stands.
        entry.stored, entry.token, entry.touched = response, None, self._clock()
        if events is not None:
            entry.add(events)
        size = size_of_text(response.body, response.previous, response.conversation) + entry.size
        size += size_of_items(*response.input, *response.output)
        size += 0 if entry.state is None else size_of_text(entry.state.body)
        self._responses.put(principal, response.id, entry, size, entry.touched)

    async def cancel(self, key: Key) -> bool:
        entry = self._responses.get(key.principal, key.id)
        if entry is None or not entry.stored.running:
            return False
        entry.cancel = True
        return True

    async def response(self, key: Key) -> StoredResponse | None:
        self._sweep_responses(key.principal)
        entry = self._responses.get(key.principal, key.id)
        return None if entry is None else replace(entry.stored, cancel=entry.cancel)

    async def chain(self, key: Key) -> Chain | None:
        self._sweep_responses(key.principal)
        links: list[ResponseEntry] = []
        following: str | None = key.id
        while following is not None:
            entry = self._responses.get(key.principal, following)
            if entry is None:
                return None
            # Using a chain uses all of it: one dropped response would make all that continue it useless.
            self._responses.use(key.principal, following, self._clock())
            links.append(entry)
            following = entry.stored.previous
        stored = [link.stored for link in reversed(links)]
        return Chain(tuple([item for link in stored for item in (*link.input, *link.output)]), links[0].state)

    async def events(self, key: Key, after: int) -> Sequence[Events]:
        entry = self._responses.get(key.principal, key.id)
        return [] if entry is None else [batch for batch in entry.events if batch.last > after]

    async def delete_response(self, key: Key) -> bool:
        entry = self._responses.pop(key.principal, key.id)
        if entry is not None:
            # A running turn must not recreate the response with its commit.
            self._end_turn(entry.token, committed=False)
        return entry is not None

    def _held_response(self, outcome: TurnCommit, response: StoredResponse) -> ResponseEntry | Literal[False] | None:
        """The response that the turn has begun; False if the turn has lost it, None if the turn has begun none."""
        entry = self._responses.get(outcome.principal, response.id)
        if entry is None:
            return False if outcome.events is not None else None
        return entry if entry.token == outcome.token else False

    def _put_response(self, outcome: TurnCommit, response: StoredResponse, entry: ResponseEntry | None) -> None:
        entry = entry or ResponseEntry(response, self._clock())
        entry.state = next((state for state in outcome.states if state.of == "response"), None)
        self._settle_response(outcome.principal, entry, response, outcome.events)

    def _on_response_dropped(self, principal: str, identifier: str, entry: ResponseEntry) -> None:
        self._mark_state_gone(principal, entry.state)

    def _sweep_responses(self, principal: str | None = None) -> int:
        return self._responses.pop_unused(self._clock() - self._ttl, principal)


def _size_of_events(events: Events) -> int:
    return ITEM_OVERHEAD + len(events.body)
