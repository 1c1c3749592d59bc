"""The memory engine: everything in this process, bounded, gone when it ends."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from .port import (
    LEASE,
    RETENTION,
    Allowance,
    Approval,
    Claim,
    Conversation,
    ConversationTurn,
    Events,
    Item,
    Key,
    Order,
    Outcome,
    Page,
    Renewal,
    Replay,
    Shelf,
    StoredCompletion,
    StoredFile,
    StoredResponse,
)

DAY = 24 * 3600.0
"""Seconds for which an idempotency key is kept at least."""

MAX_REPLAY_BYTES = 64 * 1024 * 1024
"""Bytes of all recorded answers together."""

MAX_FILE_BYTES = 256 * 1024 * 1024
"""Bytes of all files together."""

MAX_ENDED = 10_000
"""Turns of which is remembered how they ended: the latest."""

MAX_RATES = 100_000
"""Rate limits that are remembered: those used last."""

Value = TypeVar("Value")


@dataclass(slots=True)
class _Kept:
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


@dataclass(slots=True)
class _Response:
    stored: StoredResponse
    touched: float
    token: str | None = None
    events: list[Events] = field(default_factory=list[Events])
    cancel: bool = False


@dataclass(slots=True)
class _Claimed:
    request: str
    token: str
    touched: float
    replay: Replay | None = None


class MemoryStore:
    """State in dictionaries.

    Each kind holds at most `max_items`; the one that was used longest ago goes first, and any that was idle for `ttl`
    seconds. Nothing that belongs to a running turn is dropped. Locks do not expire: they die with the process that
    holds them. `clock` gives seconds.
    """

    shared = False

    def __init__(self, max_items: int = 1000, ttl: float = 1800, clock: Callable[[], float] = time.time) -> None:
        self._max = max_items
        self._ttl = ttl
        self._clock = clock
        self._conversations: OrderedDict[Key, _Kept] = OrderedDict()
        self._transcripts: dict[Key, dict[Key, None]] = {}
        self._ended: OrderedDict[str, bool] = OrderedDict()
        self._responses: OrderedDict[Key, _Response] = OrderedDict()
        self._completions: OrderedDict[Key, StoredCompletion] = OrderedDict()
        self._files: OrderedDict[Key, tuple[StoredFile, bytes]] = OrderedDict()
        self._file_bytes = 0
        self._approvals: OrderedDict[Key, Approval] = OrderedDict()
        self._claims: OrderedDict[Key, _Claimed] = OrderedDict()
        self._replay_bytes = 0
        self._slots: dict[str, set[str]] = {}
        self._rates: OrderedDict[Key, float] = OrderedDict()

    # conversations

    async def begin(self, key: Key, token: str, lease: float = LEASE) -> Conversation | None:
        """Lock and read; None while another turn holds it."""
        self._sweep_conversations()
        kept = self._conversations.get(key)
        if kept is None:
            kept = self._conversations[key] = _Kept(self._clock())
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

    def _unlock(self, key: Key, kept: _Kept) -> None:
        kept.token = None
        kept.touched = self._clock()
        self._conversations.move_to_end(key)
        self._sweep_conversations()

    async def create(self, principal: str, id: str, metadata: Mapping[str, str], items: Sequence[Item]) -> Conversation:  # noqa: A002
        """A new conversation."""
        self._sweep_conversations()
        now = self._clock()
        kept = _Kept(now, now, 1 if items else 0, dict(metadata), {item.id: item for item in items}, wanted=True)
        self._conversations[Key(principal, id)] = kept
        return _snapshot(Key(principal, id), kept)

    async def read(self, key: Key, *, items: bool = True) -> Conversation | None:
        """A conversation that was created or has a turn."""
        kept = self._known(key)
        return None if kept is None else _snapshot(key, kept, items=items)

    def _known(self, key: Key) -> _Kept | None:
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

    # responses

    async def begin_response(self, principal: str, response: StoredResponse, token: str, lease: float = LEASE) -> None:
        """Keep a response that is only beginning."""
        self._sweep_responses()
        self._responses[Key(principal, response.id)] = _Response(response, self._clock(), token)

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
        self._settle_response(kept, response, events)
        return True

    def _settle_response(self, kept: _Response, response: StoredResponse, events: Events | None) -> None:
        kept.stored, kept.token, kept.touched = response, None, self._clock()
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

    def _touch_response(self, key: Key, kept: _Response) -> None:
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

    # what a turn leaves behind

    async def commit(self, outcome: Outcome) -> bool:
        """Write what a turn leaves behind, if `token` holds what it needs."""
        if outcome.token in self._ended:
            return self._ended[outcome.token]
        conversation = self._locked(outcome)
        response = self._held(outcome)
        if conversation is False or response is False:
            return False
        if outcome.conversation is not None and isinstance(conversation, _Kept):
            self._append_turn(outcome.principal, outcome.conversation, conversation)
        if outcome.response is not None:
            self._keep_response(outcome, outcome.response, response)
        if outcome.completion is not None:
            await self.put_completion(outcome.principal, outcome.completion)
        for approval in outcome.approvals:
            await self.ask(outcome.principal, approval)
        self._end_turn(outcome.token, committed=True)
        return True

    def _end_turn(self, token: str | None, *, committed: bool) -> None:
        """A turn that has lost one thing has lost; one that was committed may ask again whether it was."""
        if token is not None:
            self._ended.setdefault(token, committed)
            if len(self._ended) > MAX_ENDED:
                self._ended.popitem(last=False)

    def _locked(self, outcome: Outcome) -> _Kept | Literal[False] | None:
        """The conversation that the turn holds, False if it lost it, None if it needs none."""
        if outcome.conversation is None:
            return None
        kept = self._conversations.get(Key(outcome.principal, outcome.conversation.id))
        return kept if kept is not None and kept.token == outcome.token else False

    def _held(self, outcome: Outcome) -> _Response | Literal[False] | None:
        """The response that the turn began, False if it lost it, None if it began none."""
        if outcome.response is None:
            return None
        kept = self._responses.get(Key(outcome.principal, outcome.response.id))
        if kept is None:
            return False if outcome.events is not None else None
        return kept if kept.token == outcome.token else False

    def _append_turn(self, principal: str, turn: ConversationTurn, kept: _Kept) -> None:
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

    def _keep_response(self, outcome: Outcome, response: StoredResponse, kept: _Response | None) -> None:
        if kept is None:
            kept = self._responses[Key(outcome.principal, response.id)] = _Response(response, self._clock())
        self._settle_response(kept, response, outcome.events)
        self._sweep_responses()

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

    # completions

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

    # files

    async def put_file(self, principal: str, file: StoredFile, content: bytes) -> None:
        """Keep a file, dropping the oldest ones where there is no room."""
        await self.delete_file(Key(principal, file.id))
        self._files[Key(principal, file.id)] = (file, content)
        self._file_bytes += len(content)
        while len(self._files) > self._max or (self._file_bytes > MAX_FILE_BYTES and len(self._files) > 1):
            await self.delete_file(next(iter(self._files)))

    async def get_file(self, key: Key) -> StoredFile | None:
        """What is known of a file."""
        found = self._files.get(key)
        return None if found is None or self._over(found[0].expires) else found[0]

    async def file_content(self, key: Key) -> bytes | None:
        """Its bytes."""
        return self._files[key][1] if await self.get_file(key) is not None else None

    async def list_files(self, principal: str) -> Sequence[StoredFile]:
        """All of a principal's files, oldest first."""
        mine = [file for key, (file, _) in self._files.items() if key.principal == principal]
        return [file for file in mine if not self._over(file.expires)]

    async def delete_file(self, key: Key) -> bool:
        """Forget a file."""
        found = self._files.pop(key, None)
        if found is None:
            return False
        self._file_bytes -= len(found[1])
        return not self._over(found[0].expires)

    def _over(self, expires: float | None) -> bool:
        return expires is not None and expires <= self._clock()

    # approvals

    async def ask(self, principal: str, approval: Approval) -> None:
        """Keep a question."""
        self._approvals[Key(principal, approval.id)] = approval
        if len(self._approvals) > self._max:
            self._approvals.popitem(last=False)

    async def approval(self, key: Key) -> Approval | None:
        """One question."""
        found = self._approvals.get(key)
        if found is not None and found.status == "pending" and self._over(found.expires):
            return replace(found, status="expired")
        return found

    async def approvals(self, principal: str, conversation: str | None = None) -> Sequence[Approval]:
        """The pending ones, oldest first."""
        return [
            approval
            for key, approval in self._approvals.items()
            if key.principal == principal
            and approval.status == "pending"
            and not self._over(approval.expires)
            and conversation in (None, approval.conversation)
        ]

    async def decide(self, key: Key, status: Literal["approved", "denied"], decision: str) -> bool:
        """Decide a pending question."""
        found = await self.approval(key)
        if found is None or found.status != "pending":
            return False
        self._approvals[key] = replace(found, status=status, decision=decision)
        return True

    # idempotency keys

    async def claim(self, key: Key, request: str, token: str, lease: float = LEASE) -> Claim:
        """Take an idempotency key."""
        claimed = self._claims.get(key)
        if claimed is None:
            self._claims[key] = _Claimed(request, token, self._clock())
            self._drop_claims()
            return "taken"
        if claimed.request != request:
            return "other request"
        return claimed.replay or ("taken" if claimed.token == token else "running")

    async def settle(self, key: Key, token: str, replay: Replay | None) -> None:
        """Record the answer, or give the key back."""
        claimed = self._claims.get(key)
        if claimed is None or claimed.token != token or claimed.replay is not None:
            return
        if replay is None:
            del self._claims[key]
        else:
            claimed.replay, claimed.touched = replay, self._clock()
            self._replay_bytes += len(replay.body)
            self._drop_claims()

    # slots and rates

    async def take_slot(self, pool: str, token: str, size: int, lease: float = LEASE) -> bool:
        """Take one of the slots of a pool."""
        taken = self._slots.setdefault(pool, set())
        if len(taken) >= size and token not in taken:
            return False
        taken.add(token)
        return True

    async def free_slot(self, pool: str, token: str) -> None:
        """Give it back."""
        self._slots.get(pool, set()).discard(token)

    async def allow(self, key: Key, per_second: float, burst: int) -> Allowance:
        """Count a request against a rate limit: `due` is when all that was let pass so far would have been spread."""
        now, each = self._clock(), 1 / per_second
        due = max(self._rates.get(key, now), now) + each
        room = burst * each - (due - now)
        if room < 0:
            return Allowance(-room, 0)
        self._rates[key] = due
        self._rates.move_to_end(key)
        if len(self._rates) > MAX_RATES:
            self._rates.popitem(last=False)
        return Allowance(0.0, int(room / each + 1e-9))

    # what goes

    async def sweep(self, retention: float = RETENTION) -> int:
        """Forget what is too old."""
        before = len(self._conversations) + len(self._responses) + len(self._files)
        self._sweep_conversations()
        self._sweep_responses()
        for key in [key for key, (file, _) in self._files.items() if self._over(file.expires)]:
            await self.delete_file(key)
        return before - len(self._conversations) - len(self._responses) - len(self._files)

    def _sweep_conversations(self) -> None:
        for key in self._outdated(self._conversations, lambda kept: (kept.touched, kept.token)):
            self._forget(key)

    def _sweep_responses(self) -> None:
        for key in self._outdated(self._responses, lambda kept: (kept.touched, kept.token)):
            del self._responses[key]

    def _outdated(
        self, kept: OrderedDict[Key, Value], use: Callable[[Value], tuple[float, str | None]]
    ) -> Sequence[Key]:
        """What is idle too long, then the oldest over the limit; never what is held.

        The dictionary is in the order of last use, so looking stops at the first one that may stay.
        """
        too_old = self._clock() - self._ttl
        surplus = len(kept) - self._max
        dropped: list[Key] = []
        for key, value in kept.items():
            touched, token = use(value)
            if len(dropped) >= surplus and touched > too_old:
                break
            if token is None:
                dropped.append(key)
        return dropped

    def _forget(self, key: Key) -> None:
        kept = self._conversations.pop(key, None)
        for transcript in kept.transcripts if kept is not None else ():
            standing = self._transcripts[Key(key.principal, transcript)]
            del standing[key]
            if not standing:
                del self._transcripts[Key(key.principal, transcript)]

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

    async def check(self) -> None:
        """Always there."""

    async def aclose(self) -> None:
        """Nothing to let go."""


def _tokens(found: set[str | None] | set[str]) -> frozenset[str]:
    return frozenset([token for token in found if token is not None])


def _snapshot(key: Key, kept: _Kept, *, items: bool = True) -> Conversation:
    found = tuple(kept.items.values()) if items else ()
    return Conversation(key.id, kept.version, kept.created, kept.touched, dict(kept.metadata), found)
