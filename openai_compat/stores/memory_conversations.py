"""Conversations in memory: a lock and the items of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..errors import Conflict
from ..policies.limits import LEASE
from .bounded_tables import ITEM_OVERHEAD, MAX_DELETED, MemoryBounds, MemoryPart, Table, size_of_items, size_of_text
from .cursors import name_before, names_after
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

FULL_MESSAGE = "This conversation is as long as this server can keep one. Begin a new one."


@dataclass(slots=True)
class ConversationEntry:
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
        self._conversations: Table[str, ConversationEntry] = Table(
            self._shares, self._max, self._on_conversation_dropped
        )
        self._transcripts: dict[Key, dict[str, ConversationEntry]] = {}

    async def begin(self, key: Key, token: str, lease: float = LEASE, *, known: bool = False) -> Conversation | None:
        self._sweep_conversations(key.principal)
        entry = self._conversations.get(key.principal, key.id) or ConversationEntry(self._clock())
        # The holder may repeat its call: the answer to the first call may have been lost.
        if entry.token not in (None, token) or (known and not entry.wanted):
            return None
        entry.token, entry.touched = token, self._clock()
        entry.next = "" if entry.next == token else entry.next
        self._conversations.hold(key.principal, key.id, entry)
        return _snapshot(key, entry)

    async def release(self, key: Key, token: str) -> None:
        entry = self._conversations.get(key.principal, key.id)
        if entry is None or entry.token != token:
            return
        # A first turn that fails must leave nothing behind, not even an empty conversation.
        if entry.wanted:
            self._unlock(key, entry)
        else:
            self._conversations.pop(key.principal, key.id)

    async def want(self, key: Key, token: str, seconds: float, *, newest: bool) -> bool:
        entry = self._conversations.get(key.principal, key.id)
        if entry is None:
            return True
        now = self._clock()
        if not newest and entry.next not in ("", token) and entry.next_until > now:
            return False
        entry.next, entry.next_until = token, now + seconds
        return True

    def _unlock(self, key: Key, entry: ConversationEntry) -> None:
        entry.token, entry.touched = None, self._clock()
        self._put_conversation(key, entry)

    def _put_conversation(self, key: Key, entry: ConversationEntry) -> None:
        # A conversation that a turn holds is not swept, and is counted when the turn releases it.
        if entry.token is None:
            self._conversations.put(key.principal, key.id, entry, entry.bytes, entry.touched)

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
        entry = ConversationEntry(
            now, now, 1 if items else 0, dict(metadata), {item.id: item for item in items}, wanted=True
        )
        entry.size, entry.state = size_of_items(*items), state
        self._put_conversation(Key(principal, id), entry)
        return _snapshot(Key(principal, id), entry)

    async def read(self, key: Key, *, items: bool = True) -> Conversation | None:
        entry = self._find_conversation(key)
        return None if entry is None else _snapshot(key, entry, items=items)

    def _find_conversation(self, key: Key) -> ConversationEntry | None:
        self._sweep_conversations(key.principal)
        entry = self._conversations.get(key.principal, key.id)
        return entry if entry is not None and entry.wanted else None

    async def update(self, key: Key, metadata: Mapping[str, str]) -> Conversation | None:
        entry = self._find_conversation(key)
        if entry is None:
            return None
        entry.metadata = dict(metadata)
        self._put_conversation(key, entry)
        return _snapshot(key, entry, items=False)

    async def delete(self, key: Key) -> bool:
        known = self._find_conversation(key) is not None
        entry = self._conversations.pop(key.principal, key.id)
        if entry is not None:
            # A running turn must not recreate the conversation with its commit.
            self._end_turn(entry.token, committed=False)
        return known

    async def find(self, principal: str, transcript: str) -> tuple[str, bool] | None:
        """The conversation that once had this transcript."""
        self._sweep_conversations(principal)
        newest = None
        # The newest first; one where the transcript is still current wins.
        for identifier, entry in reversed(self._transcripts.get(Key(principal, transcript), {}).items()):
            if entry.transcripts[transcript] == entry.version:
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
        theirs = self._conversations.entries(principal)
        found = [(name, entry) for name, entry in theirs if entry.wanted and labels.items() <= entry.metadata.items()]
        ordered = sorted(found, key=lambda one: (one[1].touched, one[0]), reverse=True)
        rest = [one for one in ordered if before is None or (one[1].touched, one[0]) < before]
        part = rest[offset : offset + limit]
        shown = [_snapshot(Key(principal, name), entry, items=False) for name, entry in part]
        return ConversationPage(tuple(shown), len(ordered))

    async def page(self, key: Key, after: str | None, limit: int, order: Order) -> Page | None:
        entry = self._find_conversation(key)
        if entry is None:
            return Page((), more=False) if after is None else None
        names = names_after(after, list(entry.items), order, entry.before.get)
        return None if names is None else Page(tuple([entry.items[name] for name in names[:limit]]), len(names) > limit)

    async def item(self, key: Key, item: str) -> Item | None:
        entry = self._find_conversation(key)
        return None if entry is None else entry.items.get(item)

    async def delete_item(self, key: Key, item: str) -> bool:
        """Delete an item; a page can still begin after it."""
        entry = self._find_conversation(key)
        if entry is None or item not in entry.items:
            return False
        self._mark_state_gone(key.principal, entry.state)  # the state may mention the item
        entry.state = None
        entry.before.pop(item, None)  # an id can be added and deleted again
        entry.before[item] = name_before(item, entry.items)
        entry.size += ITEM_OVERHEAD - size_of_items(entry.items.pop(item))
        if len(entry.before) > MAX_DELETED:
            del entry.before[next(iter(entry.before))]
            entry.size -= ITEM_OVERHEAD
        self._put_conversation(key, entry)
        return True

    def _locked_conversation(self, outcome: TurnCommit, turn: ConversationTurn) -> ConversationEntry | Literal[False]:
        """The conversation that the turn holds; False if the turn has lost it.

        Raises Conflict (`conversation_full`) if it would exceed the limit of one principal.
        """
        entry = self._conversations.get(outcome.principal, turn.id)
        if entry is None or entry.token != outcome.token:
            return False
        if entry.bytes + size_of_items(*turn.items) > self._shares.each:
            # Refused, not dropped: its turns were confirmed as stored. SDKs would retry a bare 409.
            raise Conflict(FULL_MESSAGE, code="conversation_full", should_retry=False)
        return entry

    def _append_turn(self, principal: str, turn: ConversationTurn, entry: ConversationEntry) -> None:
        # An item with a known id replaces the old one in place.
        if known := [entry.items[item.id] for item in turn.items if item.id in entry.items]:
            entry.size -= size_of_items(*known)
        entry.items |= {item.id: item for item in turn.items}
        entry.size += size_of_items(*turn.items)
        entry.version += 1
        entry.wanted = True
        if turn.transcript is not None:
            entry.size += ITEM_OVERHEAD * (turn.transcript not in entry.transcripts)
            entry.transcripts[turn.transcript] = entry.version
            with_transcript = self._transcripts.setdefault(Key(principal, turn.transcript), {})
            with_transcript.pop(turn.id, None)  # moved to the end: the newest is checked first
            with_transcript[turn.id] = entry
        self._unlock(Key(principal, turn.id), entry)

    def _sweep_conversations(self, principal: str | None = None) -> int:
        return self._conversations.pop_unused(self._clock() - self._ttl, principal)

    def _on_conversation_dropped(self, principal: str, identifier: str, entry: ConversationEntry) -> None:
        self._mark_state_gone(principal, entry.state)
        for transcript in entry.transcripts:
            with_transcript = self._transcripts[Key(principal, transcript)]
            del with_transcript[identifier]
            if not with_transcript:
                del self._transcripts[Key(principal, transcript)]


def _snapshot(key: Key, entry: ConversationEntry, *, items: bool = True) -> Conversation:
    found = tuple(entry.items.values()) if items else ()
    return Conversation(key.id, entry.version, entry.created, entry.touched, dict(entry.metadata), found, entry.state)
