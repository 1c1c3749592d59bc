"""Conversations in memory: a lock, and items that are only added to."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from .memory_part import MemoryPart
from .port import (
    LEASE,
    Conversation,
    ConversationTurn,
    Item,
    Key,
    Order,
    Outcome,
    Page,
    Shelf,
)


@dataclass(slots=True)
class Kept:
    """A conversation as it is kept."""

    created: float
    touched: float = 0.0
    version: int = 0
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    items: dict[str, Item] = field(default_factory=dict[str, Item])
    transcripts: dict[str, int] = field(default_factory=dict[str, int])
    """At which version it stood at which transcript."""
    token: str | None = None
    wanted: bool = False
    """Made on purpose, or used: kept even while it is empty."""


class MemoryConversations(MemoryPart):
    """ConversationStore in dictionaries."""

    def __init__(self, max_items: int = 1000, ttl: float = 1800, clock: Callable[[], float] = time.time) -> None:
        super().__init__(max_items, ttl, clock)
        self._conversations: OrderedDict[Key, Kept] = OrderedDict()
        self._transcripts: dict[Key, dict[Key, None]] = {}

    async def begin(self, key: Key, token: str, lease: float = LEASE) -> Conversation | None:
        """Lock and read; None while another turn holds it."""
        self._sweep_conversations()
        kept = self._conversations.get(key)
        if kept is None:
            kept = self._conversations[key] = Kept(self._clock())
        elif kept.token not in (None, token):
            return None
        kept.token, kept.touched = token, self._clock()
        self._conversations.move_to_end(key)
        return _snapshot(key, kept)

    async def release(self, key: Key, token: str) -> None:
        """Unlock without a turn."""
        kept = self._conversations.get(key)
        if kept is not None and kept.token == token:
            self._unlock(key, kept)
            if not kept.wanted:
                self._forget(key)

    def _unlock(self, key: Key, kept: Kept) -> None:
        kept.token = None
        kept.touched = self._clock()
        self._conversations.move_to_end(key)
        self._sweep_conversations()

    async def create(self, principal: str, id: str, metadata: Mapping[str, str], items: Sequence[Item]) -> Conversation:  # noqa: A002
        """A new conversation."""
        self._sweep_conversations()
        now = self._clock()
        kept = Kept(now, now, 1 if items else 0, dict(metadata), {item.id: item for item in items}, wanted=True)
        self._conversations[Key(principal, id)] = kept
        return _snapshot(Key(principal, id), kept)

    async def read(self, key: Key, *, items: bool = True) -> Conversation | None:
        """A conversation that was created or has a turn."""
        kept = self._known(key)
        return None if kept is None else _snapshot(key, kept, items=items)

    def _known(self, key: Key) -> Kept | None:
        self._sweep_conversations()
        kept = self._conversations.get(key)
        return kept if kept is not None and kept.wanted else None

    async def update(self, key: Key, metadata: Mapping[str, str]) -> Conversation | None:
        """Replace the metadata."""
        kept = self._known(key)
        if kept is None:
            return None
        kept.metadata = dict(metadata)
        return _snapshot(key, kept, items=False)

    async def delete(self, key: Key) -> bool:
        """Forget a conversation."""
        kept = self._conversations.get(key)
        if kept is not None:
            self._end_turn(kept.token, committed=False)
        known = self._known(key) is not None
        self._forget(key)
        return known

    async def find(self, principal: str, transcript: str) -> tuple[str, bool] | None:
        """The conversation that once stood at this transcript."""
        self._sweep_conversations()
        newest = None
        for key in reversed(self._transcripts.get(Key(principal, transcript), {})):
            kept = self._conversations[key]
            if kept.transcripts[transcript] == kept.version:
                return key.id, True
            newest = newest or (key.id, False)
        return newest

    async def conversations(
        self,
        principal: str,
        labels: Mapping[str, str],
        limit: int,
        offset: int = 0,
        before: tuple[float, str] | None = None,
    ) -> Shelf:
        """The conversations with these labels, those used last first."""
        self._sweep_conversations()
        theirs = [(key, kept) for key, kept in self._conversations.items() if key.principal == principal]
        found = [(key, kept) for key, kept in theirs if kept.wanted and labels.items() <= kept.metadata.items()]
        ordered = sorted(found, key=lambda one: (one[1].touched, one[0].id), reverse=True)
        rest = [one for one in ordered if before is None or (one[1].touched, one[0].id) < before]
        part = rest[offset : offset + limit]
        return Shelf(tuple([_snapshot(key, kept, items=False) for key, kept in part]), len(ordered))

    async def page(self, key: Key, after: str | None, limit: int, order: Order) -> Page | None:
        """Items after the one called `after`."""
        kept = self._known(key)
        items = list(kept.items.values()) if kept is not None else []
        if order == "desc":
            items.reverse()
        start = 0
        if after is not None:
            if kept is None or after not in kept.items:
                return None
            start = items.index(kept.items[after]) + 1
        return Page(tuple(items[start : start + limit]), len(items) > start + limit)

    async def item(self, key: Key, item: str) -> Item | None:
        """One item."""
        kept = self._known(key)
        return None if kept is None else kept.items.get(item)

    async def delete_item(self, key: Key, item: str) -> bool:
        """Take one item out."""
        kept = self._known(key)
        return kept is not None and kept.items.pop(item, None) is not None

    def _locked(self, outcome: Outcome) -> Kept | Literal[False] | None:
        """The conversation that the turn holds, False if it lost it, None if it needs none."""
        if outcome.conversation is None:
            return None
        kept = self._conversations.get(Key(outcome.principal, outcome.conversation.id))
        return kept if kept is not None and kept.token == outcome.token else False

    def _append_turn(self, principal: str, turn: ConversationTurn, kept: Kept) -> None:
        key = Key(principal, turn.id)
        kept.items |= {item.id: item for item in turn.items}
        kept.version += 1
        kept.wanted = True
        if turn.transcript is not None:
            kept.transcripts[turn.transcript] = kept.version
            standing = self._transcripts.setdefault(Key(principal, turn.transcript), {})
            standing.pop(key, None)
            standing[key] = None
        self._unlock(key, kept)

    def _sweep_conversations(self) -> None:
        for key in self._outdated(self._conversations, lambda kept: (kept.touched, kept.token)):
            self._forget(key)

    def _forget(self, key: Key) -> None:
        kept = self._conversations.pop(key, None)
        for transcript in kept.transcripts if kept is not None else ():
            standing = self._transcripts[Key(key.principal, transcript)]
            del standing[key]
            if not standing:
                del self._transcripts[Key(key.principal, transcript)]


def _snapshot(key: Key, kept: Kept, *, items: bool = True) -> Conversation:
    found = tuple(kept.items.values()) if items else ()
    return Conversation(key.id, kept.version, kept.created, kept.touched, dict(kept.metadata), found)
