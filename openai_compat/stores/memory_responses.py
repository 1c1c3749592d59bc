"""Responses in memory, with their event logs."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from .memory_part import MemoryPart
from .port import (
    LEASE,
    Events,
    Item,
    Key,
    Outcome,
    StoredResponse,
)


@dataclass(slots=True)
class KeptResponse:
    """A response as it is kept."""

    stored: StoredResponse
    touched: float
    token: str | None = None
    events: list[Events] = field(default_factory=list[Events])
    cancel: bool = False


class MemoryResponses(MemoryPart):
    """ResponseStore in a dictionary."""

    def __init__(self, max_items: int = 1000, ttl: float = 1800, clock: Callable[[], float] = time.time) -> None:
        super().__init__(max_items, ttl, clock)
        self._responses: OrderedDict[Key, KeptResponse] = OrderedDict()

    async def begin_response(self, principal: str, response: StoredResponse, token: str, lease: float = LEASE) -> None:
        """Keep a response that is only beginning."""
        self._sweep_responses()
        self._responses[Key(principal, response.id)] = KeptResponse(response, self._clock(), token)

    async def append(self, key: Key, token: str, events: Events) -> bool:
        """Add to the event log."""
        kept = self._responses.get(key)
        if kept is None or kept.token != token:
            return False
        kept.events.append(events)
        if kept.stored.status == "queued":
            kept.stored = replace(kept.stored, status="in_progress")
        return True

    async def end_response(self, principal: str, response: StoredResponse, events: Events | None) -> bool:
        """Nothing dies here before the process does."""
        return False

    async def take_response(self, principal: str, response: StoredResponse, events: Events | None) -> bool:
        """Give a running response its outcome, whoever holds it."""
        kept = self._responses.get(Key(principal, response.id))
        if kept is None or not kept.stored.running:
            return False
        self._end_turn(kept.token, committed=False)
        self._settle_response(Key(principal, response.id), kept, response, events)
        return True

    def _settle_response(self, key: Key, kept: KeptResponse, response: StoredResponse, events: Events | None) -> None:
        kept.stored, kept.token = response, None
        self._touch_response(key, kept)
        if events is not None:
            kept.events.append(events)

    async def cancel(self, key: Key) -> bool:
        """Ask whoever runs a response to stop."""
        kept = self._responses.get(key)
        if kept is None or not kept.stored.running:
            return False
        kept.cancel = True
        return True

    async def response(self, key: Key) -> StoredResponse | None:
        """A response with its own items."""
        self._sweep_responses()
        kept = self._responses.get(key)
        return None if kept is None else replace(kept.stored, cancel=kept.cancel)

    async def chain(self, key: Key) -> tuple[Item, ...] | None:
        """The items of a response and of all those it continues."""
        self._sweep_responses()
        links: list[StoredResponse] = []
        following: str | None = key.id
        while following is not None:
            kept = self._responses.get(Key(key.principal, following))
            if kept is None:
                return None
            self._touch_response(Key(key.principal, following), kept)
            links.append(kept.stored)
            following = kept.stored.previous
        return tuple([item for link in reversed(links) for item in (*link.input, *link.output)])

    def _touch_response(self, key: Key, kept: KeptResponse) -> None:
        kept.touched = self._clock()
        self._responses.move_to_end(key)

    async def events(self, key: Key, after: int) -> Sequence[Events]:
        """The log's batches that hold numbers beyond `after`."""
        kept = self._responses.get(key)
        return [] if kept is None else [batch for batch in kept.events if batch.last > after]

    async def delete_response(self, key: Key) -> bool:
        """Forget a response."""
        kept = self._responses.pop(key, None)
        if kept is not None:
            self._end_turn(kept.token, committed=False)
        return kept is not None

    def _held(self, outcome: Outcome) -> KeptResponse | Literal[False] | None:
        """The response that the turn began, False if it lost it, None if it began none."""
        if outcome.response is None:
            return None
        kept = self._responses.get(Key(outcome.principal, outcome.response.id))
        if kept is None:
            return False if outcome.events is not None else None
        return kept if kept.token == outcome.token else False

    def _keep_response(self, outcome: Outcome, response: StoredResponse, kept: KeptResponse | None) -> None:
        key = Key(outcome.principal, response.id)
        if kept is None:
            kept = self._responses[key] = KeptResponse(response, self._clock())
        self._settle_response(key, kept, response, outcome.events)
        self._sweep_responses()

    def _sweep_responses(self) -> None:
        for key in self._outdated(self._responses, lambda kept: (kept.touched, kept.token)):
            del self._responses[key]
