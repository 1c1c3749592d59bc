"""The memory engine: everything in this process, bounded, gone when it ends."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .port import Claim, Conversation, Key, Replay, StoredCompletion

DAY = 24 * 3600.0
"""Seconds for which an idempotency key is kept at least."""

MAX_REPLAY_BYTES = 64 * 1024 * 1024
"""Bytes of all recorded answers together."""


@dataclass(slots=True)
class _Kept:
    created: float
    touched: float = 0.0
    turns: list[str] = field(default_factory=list[str])
    transcripts: list[str] = field(default_factory=list[str])
    token: str | None = None


@dataclass(slots=True)
class _Claimed:
    request: str
    token: str
    touched: float
    replay: Replay | None = None


class MemoryStore:
    """Conversations, completions and idempotency keys in dictionaries.

    Each kind holds at most `max_items`; the one that was used longest ago goes first, and any that was idle for `ttl`
    seconds. A conversation with a running turn is never dropped. `clock` gives seconds.
    """

    def __init__(self, max_items: int = 1000, ttl: float = 1800, clock: Callable[[], float] = time.time) -> None:
        self._max = max_items
        self._ttl = ttl
        self._clock = clock
        self._conversations: OrderedDict[Key, _Kept] = OrderedDict()
        self._transcripts: dict[Key, Key] = {}
        self._completions: OrderedDict[Key, StoredCompletion] = OrderedDict()
        self._claims: OrderedDict[Key, _Claimed] = OrderedDict()
        self._replay_bytes = 0

    async def begin(self, key: Key, token: str) -> Conversation | None:
        """Lock and read; None while another turn holds it."""
        self._sweep()
        kept = self._conversations.get(key)
        if kept is None:
            kept = self._conversations[key] = _Kept(self._clock())
        elif kept.token is not None:
            return None
        kept.token, kept.touched = token, self._clock()
        self._conversations.move_to_end(key)
        return _snapshot(key, kept)

    async def commit(self, key: Key, token: str, turn: str, transcript: str | None) -> bool:
        """Append a turn and unlock, if `token` holds the lock."""
        kept = self._conversations.get(key)
        if kept is None or kept.token != token:
            return False
        kept.turns.append(turn)
        if transcript is not None:
            kept.transcripts.append(transcript)
            self._transcripts[Key(key.principal, transcript)] = key
        self._unlock(key, kept)
        return True

    async def release(self, key: Key, token: str) -> None:
        """Unlock without a turn."""
        kept = self._conversations.get(key)
        if kept is not None and kept.token == token:
            self._unlock(key, kept)
            if not kept.turns:
                self._forget(key)

    def _unlock(self, key: Key, kept: _Kept) -> None:
        kept.token = None
        kept.touched = self._clock()
        self._conversations.move_to_end(key)
        self._sweep()

    async def read(self, key: Key) -> Conversation | None:
        """A conversation that has turns."""
        self._sweep()
        kept = self._conversations.get(key)
        return _snapshot(key, kept) if kept is not None and kept.turns else None

    async def delete(self, key: Key) -> bool:
        """Forget a conversation."""
        known = await self.read(key) is not None
        self._forget(key)
        return known

    async def find(self, principal: str, transcript: str) -> tuple[str, bool] | None:
        """The conversation that once stood at this transcript."""
        self._sweep()
        key = self._transcripts.get(Key(principal, transcript))
        if key is None:
            return None
        return key.id, self._conversations[key].transcripts[-1] == transcript

    async def put_completion(self, principal: str, completion: StoredCompletion) -> None:
        """Keep a completion."""
        self._completions[Key(principal, completion.id)] = completion
        if len(self._completions) > self._max:
            self._completions.popitem(last=False)

    async def get_completion(self, key: Key) -> StoredCompletion | None:
        """One completion."""
        return self._completions.get(key)

    async def delete_completion(self, key: Key) -> bool:
        """Forget one completion."""
        return self._completions.pop(key, None) is not None

    async def list_completions(self, principal: str) -> Sequence[StoredCompletion]:
        """All of a principal's completions, oldest first."""
        return [completion for key, completion in self._completions.items() if key.principal == principal]

    async def claim(self, key: Key, request: str, token: str) -> Claim:
        """Take an idempotency key."""
        claimed = self._claims.get(key)
        if claimed is None:
            self._claims[key] = _Claimed(request, token, self._clock())
            self._drop_claims()
            return "taken"
        if claimed.request != request:
            return "other request"
        return claimed.replay or "running"

    async def settle(self, key: Key, token: str, replay: Replay | None) -> None:
        """Record the answer, or give the key back."""
        claimed = self._claims.get(key)
        if claimed is None or claimed.token != token:
            return
        if replay is None:
            del self._claims[key]
        else:
            claimed.replay, claimed.touched = replay, self._clock()
            self._replay_bytes += len(replay.body)
            self._drop_claims()

    # what goes

    def _sweep(self) -> None:
        """Drop what is idle too long, then the oldest over the limit; never what is locked.

        The dictionary is in the order of last use, so looking stops at the first one that may stay.
        """
        too_old = self._clock() - self._ttl
        surplus = len(self._conversations) - self._max
        dropped: list[Key] = []
        for key, kept in self._conversations.items():
            if len(dropped) >= surplus and kept.touched > too_old:
                break
            if kept.token is None:
                dropped.append(key)
        for key in dropped:
            self._forget(key)

    def _forget(self, key: Key) -> None:
        kept = self._conversations.pop(key, None)
        for transcript in kept.transcripts if kept is not None else ():
            self._transcripts.pop(Key(key.principal, transcript), None)

    def _drop_claims(self) -> None:
        """Drop replays a day old, then the oldest over the limits; never a key whose first request still runs."""
        too_old = self._clock() - max(self._ttl, DAY)
        for key, claimed in list(self._claims.items()):
            over = len(self._claims) > self._max or self._replay_bytes > MAX_REPLAY_BYTES
            if claimed.replay is None:
                continue
            if not over and claimed.touched > too_old:
                break
            self._replay_bytes -= len(claimed.replay.body)
            del self._claims[key]


def _snapshot(key: Key, kept: _Kept) -> Conversation:
    return Conversation(key.id, len(kept.turns), kept.created, kept.touched, tuple(kept.turns))
