"""Conversations in memory: a lock and the items of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..errors import Conflict
from ..policies.limits import LEASE
from .bounded_tables import ITEM, MAX_GONE, MemoryBounds, MemoryPart, Table, size_of_items, size_of_text
from .cursors import names_after, one_before
from .records import (
    AgentState,
    Conversation,
    ConversationPage,
    ConversationTurn,
    Item,
    Key,
    Order,
    Page,
    TurnCommit,
)

FULL = "This conversation is as long as this server can keep one. Begin a new one."


@dataclass(slots=True)
class Kept:
    """A stored conversation."""

    created: float
    touched: float = 0.0
    version: int = 0
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    items: dict[str, Item] = field(default_factory=dict[str, Item])
    before: dict[str, str] = field(default_factory=dict[str, str])
    """The item before each deleted item."""
    transcripts: dict[str, int] = field(default_factory=dict[str, int])
    """The version of the conversation at each transcript."""
    token: str | None = None
    wanted: bool = False
    """True if it was created explicitly or has a turn: it is then stored even while it is empty."""
    next: str = ""
    """The token of the turn that gets the conversation next."""
    next_until: float = 0.0
    size: int = 0
    """Bytes of items, deleted items and transcripts."""
    state: AgentState | None = None

    @property
    def bytes(self) -> int:
        """Total size in bytes."""
        state = None if self.state is None else self.state.body
        return self.size + size_of_text(state, *self.metadata, *self.metadata.values())


class MemoryConversations(MemoryPart):
    """ConversationStore in tables: conversations, and an index of them by transcript."""

    def __init__(self, bounds: MemoryBounds) -> None:
        super().__init__(bounds)
        self._conversations: Table[str, Kept] = Table(self._shares, self._max, self._conversation_dropped)
        self._transcripts: dict[Key, dict[str, Kept]] = {}

    async def begin(self, key: Key, token: str, lease: float = LEASE, *, known: bool = False) -> Conversation | None:
        self._sweep_conversations(key.principal)
        kept = self._conversations.get(key.principal, key.id) or Kept(self._clock())
        # The holder may repeat its call: the answer to the first call may have been lost.
        if kept.token not in (None, token) or (known and not kept.wanted):
            return None
        kept.token, kept.touched = token, self._clock()
        kept.next = "" if kept.next == token else kept.next
        self._conversations.hold(key.principal, key.id, kept)
        return _snapshot(key, kept)

    async def release(self, key: Key, token: str) -> None:
        kept = self._conversations.get(key.principal, key.id)
        if kept is None or kept.token != token:
            return
        # A first turn that fails must leave nothing behind, not even an empty conversation.
        if kept.wanted:
            self._unlock(key, kept)
        else:
            self._conversations.pop(key.principal, key.id)

    async def want(self, key: Key, token: str, seconds: float, *, newest: bool) -> bool:
        kept = self._conversations.get(key.principal, key.id)
        if kept is None:
            return True
        now = self._clock()
        if not newest and kept.next not in ("", token) and kept.next_until > now:
            return False
        kept.next, kept.next_until = token, now + seconds
        return True

    def _unlock(self, key: Key, kept: Kept) -> None:
        kept.token, kept.touched = None, self._clock()
        self._keep(key, kept)

    def _keep(self, key: Key, kept: Kept) -> None:
        # A conversation that a turn holds is not swept, and is counted when the turn releases it.
        if kept.token is None:
            self._conversations.rest(key.principal, key.id, kept, kept.bytes, kept.touched)

    async def create(
        self,
        principal: str,
        id: str,
        metadata: Mapping[str, str],
        items: Sequence[Item],
        state: AgentState | None = None,
    ) -> Conversation:
        self._sweep_conversations(principal)
        now = self._clock()
        kept = Kept(now, now, 1 if items else 0, dict(metadata), {item.id: item for item in items}, wanted=True)
        kept.size, kept.state = size_of_items(*items), state
        self._keep(Key(principal, id), kept)
        return _snapshot(Key(principal, id), kept)

    async def read(self, key: Key, *, items: bool = True) -> Conversation | None:
        kept = self._known(key)
        return None if kept is None else _snapshot(key, kept, items=items)

    def _known(self, key: Key) -> Kept | None:
        self._sweep_conversations(key.principal)
        kept = self._conversations.get(key.principal, key.id)
        return kept if kept is not None and kept.wanted else None

    async def update(self, key: Key, metadata: Mapping[str, str]) -> Conversation | None:
        kept = self._known(key)
        if kept is None:
            return None
        kept.metadata = dict(metadata)
        self._keep(key, kept)
        return _snapshot(key, kept, items=False)

    async def delete(self, key: Key) -> bool:
        known = self._known(key) is not None
        kept = self._conversations.pop(key.principal, key.id)
        if kept is not None:
            # A running turn must not recreate the conversation with its commit.
            self._end_turn(kept.token, committed=False)
        return known

    async def find(self, principal: str, transcript: str) -> tuple[str, bool] | None:
        """The conversation that once had this transcript."""
        self._sweep_conversations(principal)
        newest = None
        # The newest first; one where the transcript is still current wins.
        for identifier, kept in reversed(self._transcripts.get(Key(principal, transcript), {}).items()):
            if kept.transcripts[transcript] == kept.version:
                return identifier, True
            newest = newest or (identifier, False)
        return newest

    async def conversations(
        self,
        principal: str,
        labels: Mapping[str, str],
        limit: int,
        offset: int = 0,
        before: tuple[float, str] | None = None,
    ) -> ConversationPage:
        self._sweep_conversations(principal)
        theirs = self._conversations.of(principal)
        found = [(name, kept) for name, kept in theirs if kept.wanted and labels.items() <= kept.metadata.items()]
        ordered = sorted(found, key=lambda one: (one[1].touched, one[0]), reverse=True)
        rest = [one for one in ordered if before is None or (one[1].touched, one[0]) < before]
        part = rest[offset : offset + limit]
        shown = [_snapshot(Key(principal, name), kept, items=False) for name, kept in part]
        return ConversationPage(tuple(shown), len(ordered))

    async def page(self, key: Key, after: str | None, limit: int, order: Order) -> Page | None:
        kept = self._known(key)
        if kept is None:
            return Page((), more=False) if after is None else None
        names = names_after(after, list(kept.items), order, kept.before.get)
        return None if names is None else Page(tuple([kept.items[name] for name in names[:limit]]), len(names) > limit)

    async def item(self, key: Key, item: str) -> Item | None:
        kept = self._known(key)
        return None if kept is None else kept.items.get(item)

    async def delete_item(self, key: Key, item: str) -> bool:
        """Delete an item; a page can still begin after it."""
        kept = self._known(key)
        if kept is None or item not in kept.items:
            return False
        self._lose_state(key.principal, kept.state)  # the state may mention the item
        kept.state = None
        kept.before.pop(item, None)  # an id can be added and deleted again
        kept.before[item] = one_before(item, kept.items)
        kept.size += ITEM - size_of_items(kept.items.pop(item))
        if len(kept.before) > MAX_GONE:
            del kept.before[next(iter(kept.before))]
            kept.size -= ITEM
        self._keep(key, kept)
        return True

    def _locked(self, outcome: TurnCommit, turn: ConversationTurn) -> Kept | Literal[False]:
        """The conversation that the turn holds; False if the turn has lost it.

        Raises Conflict (`conversation_full`) if it would exceed the limit of one principal.
        """
        kept = self._conversations.get(outcome.principal, turn.id)
        if kept is None or kept.token != outcome.token:
            return False
        if kept.bytes + size_of_items(*turn.items) > self._shares.each:
            # Refused, not dropped: its turns were confirmed as stored. SDKs would retry a bare 409.
            raise Conflict(FULL, code="conversation_full", should_retry=False)
        return kept

    def _append_turn(self, principal: str, turn: ConversationTurn, kept: Kept) -> None:
        # An item with a known id replaces the old one in place.
        if known := [kept.items[item.id] for item in turn.items if item.id in kept.items]:
            kept.size -= size_of_items(*known)
        kept.items |= {item.id: item for item in turn.items}
        kept.size += size_of_items(*turn.items)
        kept.version += 1
        kept.wanted = True
        if turn.transcript is not None:
            kept.size += ITEM * (turn.transcript not in kept.transcripts)
            kept.transcripts[turn.transcript] = kept.version
            standing = self._transcripts.setdefault(Key(principal, turn.transcript), {})
            standing.pop(turn.id, None)  # moved to the end: the newest is checked first
            standing[turn.id] = kept
        self._unlock(Key(principal, turn.id), kept)

    def _sweep_conversations(self, principal: str | None = None) -> int:
        return self._conversations.pop_unused(self._clock() - self._ttl, principal)

    def _conversation_dropped(self, principal: str, identifier: str, kept: Kept) -> None:
        self._lose_state(principal, kept.state)
        for transcript in kept.transcripts:
            standing = self._transcripts[Key(principal, transcript)]
            del standing[identifier]
            if not standing:
                del self._transcripts[Key(principal, transcript)]


def _snapshot(key: Key, kept: Kept, *, items: bool = True) -> Conversation:
    found = tuple(kept.items.values()) if items else ()
    return Conversation(key.id, kept.version, kept.created, kept.touched, dict(kept.metadata), found, kept.state)
