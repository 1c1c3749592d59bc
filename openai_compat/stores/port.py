"""The store port: what every engine can do.

Everything is keyed by who owns it: another principal's id is an unknown id. Bodies are JSON text in ASCII, so that NUL
and lone surrogates survive any database. Times are unix seconds of the engine's clock, never the process's.

Whoever runs a turn holds it by a *token*, random for each turn: it locks the conversation, owns the response's event
log, a slot and an idempotency key. A lock lasts `lease` seconds unless `renew` is called; those of dead processes
expire. What a turn leaves behind goes in with one `commit`: check the token, write all of it, give the locks back, at
once or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from ..policies.limits import LEASE

RETENTION = 30 * 24 * 3600.0
"""Seconds for which what is stored is kept after it was used last."""

LOG_BYTES = 16 * 1024 * 1024
"""Bytes of a stream's events that a process keeps at hand for those who follow it; the oldest are forgotten first."""


@dataclass(frozen=True, slots=True)
class Key:
    """Whose, and which."""

    principal: str
    id: str


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a conversation as the Responses API writes it: `body` is its JSON, which has the same `id`."""

    id: str
    body: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is known of a conversation. `version` counts its turns."""

    id: str
    version: int
    created: float
    touched: float
    metadata: Mapping[str, str]
    items: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class ConversationPage:
    """A part of a principal's conversations, without their items, and how many there are in all."""

    conversations: tuple[Conversation, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list: the items after the cursor, and whether there are more."""

    items: tuple[Item, ...]
    more: bool


Order: TypeAlias = Literal["asc", "desc"]
ResponseStatus: TypeAlias = Literal["queued", "in_progress", "completed", "failed", "incomplete", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    """A response: what was answered, and the items it was made from.

    Attributes:
        body: the Response object, as JSON.
        previous: the response that it continues, None if it begins a chain.
        conversation: the conversation that it belongs to, if any.
        input: the request's own items.
        output: the items of the answer.
        alive: False if it still runs as far as is known, but nobody holds it: its process has died.
        cancel: somebody wants it stopped.
    """

    id: str
    created: float
    status: ResponseStatus
    body: str
    background: bool = False
    previous: str | None = None
    conversation: str | None = None
    input: tuple[Item, ...] = ()
    output: tuple[Item, ...] = ()
    alive: bool = True
    cancel: bool = False

    @property
    def running(self) -> bool:
        """Whether it has no outcome yet."""
        return self.status in ("queued", "in_progress")


@dataclass(frozen=True, slots=True)
class Events:
    """A batch of a stream's events, as they were sent: `body` holds the numbers `first` to `last`, without a gap."""

    first: int
    last: int
    body: str


@dataclass(frozen=True, slots=True)
class StoredCompletion:
    """A chat completion that its client wanted kept: the answer, and the messages that led to it, as JSON."""

    id: str
    created: float
    model: str
    metadata: dict[str, str]
    body: str
    messages: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A tool call that waits for somebody's yes.

    `turn` is the response or completion that asked, `agent` the name of the agent, `digest` a hash of tool and
    arguments. JSON are `state`, the agent's own, `decision`, and `request`: how the agent was asked, for the one who
    goes on with the turn; None for APIs whose clients say it again.
    """

    id: str
    created: float
    expires: float
    turn: str
    call_id: str
    conversation: str | None
    tool: str
    arguments: str
    digest: str
    agent: str = ""
    state: str = "null"
    status: Literal["pending", "approved", "denied", "expired"] = "pending"
    decision: str = "null"
    request: str | None = None


@dataclass(frozen=True, slots=True)
class ConversationTurn:
    """What a turn adds to a conversation. `transcript` is a hash by which it can be found as it then stands."""

    id: str
    items: tuple[Item, ...]
    transcript: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnOutcome:
    """Everything that a turn leaves behind: written at once, or not at all.

    `events` are the last of the log of `response`, which must have been begun with `begin_response` if there are any.
    """

    principal: str
    token: str
    conversation: ConversationTurn | None = None
    response: StoredResponse | None = None
    events: Events | None = None
    completion: StoredCompletion | None = None
    approvals: tuple[Approval, ...] = ()


@dataclass(frozen=True, slots=True)
class Renewal:
    """What became of tokens: those that still hold what they held, and those whose turn somebody wants stopped."""

    held: frozenset[str]
    cancelled: frozenset[str]


@dataclass(frozen=True, slots=True)
class Replay:
    """The recorded answer to the first request with an idempotency key."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


Claim: TypeAlias = Literal["taken", "running", "other request", "lost"] | Replay
"""What becomes of a request with an idempotency key: it runs; another runs; the key is another request's; the first
one's process died, so that nobody knows what it has done; or a replay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """An uploaded file. `size` is in bytes; `expires` None means that it stays as long as it is used."""

    id: str
    created: float
    filename: str
    purpose: str
    media_type: str
    size: int
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Allowance:
    """Whether a rate limit lets a request pass: seconds to wait if not, and how many more could pass now."""

    wait: float
    remaining: int


class ConversationStore(Protocol):
    """Conversations: a lock, and items that are only added to."""

    async def begin(self, key: Key, token: str, lease: float = LEASE) -> Conversation | None:
        """Lock a conversation, known or new, for one turn and read it; None while another turn holds it."""
        ...

    async def release(self, key: Key, token: str) -> None:
        """Unlock without a turn, if `token` still holds the lock. What was new and stayed empty is forgotten."""
        ...

    async def create(self, principal: str, id: str, metadata: Mapping[str, str], items: Sequence[Item]) -> Conversation:  # noqa: A002
        """A new conversation, kept also while it is empty. `items` are its first turn, if there are any."""
        ...

    async def read(self, key: Key, *, items: bool = True) -> Conversation | None:
        """A conversation that was created or has a turn, without its items if they are not wanted."""
        ...

    async def update(self, key: Key, metadata: Mapping[str, str]) -> Conversation | None:
        """Replace the metadata; None if unknown. The result has no items."""
        ...

    async def delete(self, key: Key) -> bool:
        """Forget a conversation, also while a turn runs in it: that turn's commit fails then. False if unknown."""
        ...

    async def find(self, principal: str, transcript: str) -> tuple[str, bool] | None:
        """The conversation that once stood at this transcript, and whether it still does."""
        ...

    async def conversations(
        self,
        principal: str,
        labels: Mapping[str, str],
        limit: int,
        offset: int = 0,
        before: tuple[float, str] | None = None,
    ) -> ConversationPage:
        """The conversations with these labels in their metadata, those used last first.

        Ties go by the id, the greatest first. `before` is the `touched` and the id of one: only those after it in
        that order; `offset` passes over so many more.
        """
        ...

    async def page(self, key: Key, after: str | None, limit: int, order: Order) -> Page | None:
        """Items after the one called `after`, in order of conversation; None if that one never was there.

        One that was deleted keeps its place.
        """
        ...

    async def item(self, key: Key, item: str) -> Item | None:
        """One item."""
        ...

    async def delete_item(self, key: Key, item: str) -> bool:
        """Take one item out. False if unknown."""
        ...


class ResponseStore(Protocol):
    """Responses, the chains they form, and the event logs of those that others may follow."""

    async def begin_response(self, principal: str, response: StoredResponse, token: str, lease: float = LEASE) -> None:
        """Keep a response that is only beginning; `token` holds it."""
        ...

    async def append(self, key: Key, token: str, events: Events) -> bool:
        """Add to the event log. False, and nothing is written, if `token` does not hold the response.

        The first batch makes a queued response one in progress.
        """
        ...

    async def end_response(self, principal: str, response: StoredResponse, events: Events | None) -> bool:
        """Give a response whose process has died its outcome. False if somebody holds it, or it has one already."""
        ...

    async def take_response(self, principal: str, response: StoredResponse, events: Events | None) -> bool:
        """Give a running response its outcome, whoever holds it: that one's commit fails. False if it has one."""
        ...

    async def cancel(self, key: Key) -> bool:
        """Ask whoever runs a response to stop; `renew` tells them. False if it is unknown or has its outcome."""
        ...

    async def response(self, key: Key) -> StoredResponse | None:
        """A response with its own items."""
        ...

    async def chain(self, key: Key) -> tuple[Item, ...] | None:
        """The items of a response and of all those it continues, oldest first: each one's input, then its output.

        None if one of them is unknown or was deleted.
        """
        ...

    async def events(self, key: Key, after: int) -> Sequence[Events]:
        """The log's batches that hold numbers beyond `after`, in order; the first may begin before it."""
        ...

    async def delete_response(self, key: Key) -> bool:
        """Forget a response. False if unknown. Those that continue it cannot be continued any more."""
        ...


class CompletionStore(Protocol):
    """Chat completions that were asked to be stored."""

    async def put_completion(self, principal: str, completion: StoredCompletion) -> None:
        """Keep a completion, new or changed."""
        ...

    async def get_completion(self, key: Key) -> StoredCompletion | None:
        """One completion."""
        ...

    async def delete_completion(self, key: Key) -> bool:
        """Forget one completion; False if unknown."""
        ...

    async def list_completions(
        self, principal: str, after: str | None = None, order: Order = "asc"
    ) -> Sequence[StoredCompletion] | None:
        """A principal's completions, oldest first in order `asc`; those after the one called `after`, which may be gone.

        None if that one never was there, or went too long ago.
        """
        ...


class FileStore(Protocol):
    """Uploaded files."""

    async def put_file(self, principal: str, file: StoredFile, content: bytes) -> None:
        """Keep a file."""
        ...

    async def get_file(self, key: Key) -> StoredFile | None:
        """What is known of a file that has not expired."""
        ...

    async def file_content(self, key: Key) -> bytes | None:
        """Its bytes."""
        ...

    async def list_files(
        self, principal: str, after: str | None = None, order: Order = "asc"
    ) -> Sequence[StoredFile] | None:
        """A principal's files, likewise."""
        ...

    async def delete_file(self, key: Key) -> bool:
        """Forget a file; False if unknown."""
        ...


class ApprovalStore(Protocol):
    """Tool calls that wait for a decision, which is made once."""

    async def ask(self, principal: str, approval: Approval) -> None:
        """Keep a question."""
        ...

    async def approval(self, key: Key) -> Approval | None:
        """One question; `status` "expired" once its time is over."""
        ...

    async def approvals(self, principal: str, conversation: str | None = None) -> Sequence[Approval]:
        """The pending ones, oldest first, of one conversation or of all."""
        ...

    async def decide(self, key: Key, status: Literal["approved", "denied"], decision: str) -> bool:
        """Decide a pending question before it expires. False if there is none: only one caller ever gets True."""
        ...


class Store(ConversationStore, ResponseStore, CompletionStore, FileStore, ApprovalStore, Protocol):
    """Keeps the state of a server. Every method may raise Unavailable (503 `store_unavailable`)."""

    @property
    def shared(self) -> bool:
        """Whether several processes may use it at once."""
        ...

    async def commit(self, outcome: TurnOutcome) -> bool:
        """Write what a turn leaves behind and give its locks back. False, and nothing is changed, if `token` lost one.

        To be told apart from a lost answer: a second `commit` with the same token that was already done is True.
        """
        ...

    async def renew(self, tokens: Sequence[str], lease: float = LEASE) -> Renewal:
        """Hold on to everything that these tokens hold, for another `lease` seconds."""
        ...

    async def claim(self, key: Key, request: str, token: str, lease: float = LEASE) -> Claim:
        """Take an idempotency key for a request, known by its hash."""
        ...

    async def settle(self, key: Key, token: str, replay: Replay | None) -> None:
        """Record the answer, or, with None, give the key back: nothing was run."""
        ...

    async def take_slot(self, pool: str, token: str, size: int, lease: float = LEASE) -> bool:
        """Take one of the `size` slots of a pool, shared by all processes. False if none is free."""
        ...

    async def free_slot(self, pool: str, token: str) -> None:
        """Give it back."""
        ...

    async def allow(self, key: Key, per_second: float, burst: int) -> Allowance:
        """Count a request against a rate limit (GCRA): `burst` at once, then `per_second`."""
        ...

    async def sweep(self, retention: float = RETENTION) -> int:
        """Forget what was last used longer ago than `retention` seconds, and what has expired; tells how many rows."""
        ...

    async def check(self) -> None:
        """Return if the engine answers, raise Unavailable if it does not."""
        ...

    async def aclose(self) -> None:
        """Let go of the engine."""
        ...
