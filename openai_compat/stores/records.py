"""What a store keeps, gives and takes. Public as names of `openai_compat.stores.port`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Key:
    """An owner and an id."""

    principal: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentState:
    """What an agent has left with a turn, for the turn that continues it.

    Attributes:
        of: what it is kept with: a conversation, a response, or calls that wait in neither of them. "gone" is what nothing
            leads to any more.
        id: the id of that.
        agent: the name of the agent.
        session: shared by all states that follow from one another.
        body: the state, as JSON.
        version: the form of the state, as the agent has declared it.
        paused: whether calls wait for results or decisions there.
        turn: the turn of the conversation that has left it, counted from 1: one that is followed by others is outdated.
        expires: when the calls can be answered no longer.
    """

    # What it is found by again, and deleted with: no agent is asked to look its own states up.
    of: Literal["conversation", "response", "pause", "gone"]
    id: str
    agent: str
    session: str
    body: str
    version: int = 0
    paused: bool = False
    turn: int = 0
    expires: float | None = None

    def gone(self) -> AgentState:
        """The same once nothing leads to it any more."""
        return replace(self, of="gone", id=f"{self.of}:{self.id}:{self.session}", expires=None)


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a conversation as the Responses API writes it: `body` is its JSON, which has the same `id`."""

    id: str
    body: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation. `version` counts its turns."""

    id: str
    version: int
    created: float
    touched: float
    metadata: Mapping[str, str]
    items: tuple[Item, ...] = ()
    state: AgentState | None = None

    @property
    def latest_state(self) -> AgentState | None:
        """What its last turn has left; None if that has left nothing."""
        return self.state if self.state is not None and self.state.turn == self.version else None


@dataclass(frozen=True, slots=True)
class Chain:
    """The items of a response and of all those it continues, oldest first, and the state that it has left."""

    items: tuple[Item, ...]
    state: AgentState | None = None


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
    """A response: the answer, and the items it was made from.

    Attributes:
        body: the Response object, as JSON.
        previous: the response that it continues, None if it begins a chain.
        conversation: the conversation that it belongs to, if any.
        input: the request's own items.
        output: the items of the answer.
        alive: False if it has no outcome and its process has died: nobody holds it.
        cancel: whether its cancellation was requested.
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
        """True while it has no outcome."""
        return self.status in ("queued", "in_progress")


@dataclass(frozen=True, slots=True)
class Events:
    """A batch of a stream's events, as they were sent: `body` holds the numbers `first` to `last`, without a gap."""

    first: int
    last: int
    body: bytes


@dataclass(frozen=True, slots=True)
class StoredCompletion:
    """A chat completion with `store: true`: the answer and the messages that led to it, as JSON."""

    id: str
    created: float
    model: str
    metadata: dict[str, str]
    body: str
    messages: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A tool call that waits for approval.

    Attributes:
        turn: the response or completion that has asked.
        agent: the name of the agent.
        digest: a hash of tool and arguments.
        state: the agent's state when it paused, as JSON.
        decision: the decision, as JSON.
        request: how the agent was asked, as JSON, for a decision that resumes the turn without sending it again.
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
class Grant:
    """What a person has allowed for always: calls of a tool of an agent, `body` says which, as JSON.

    The same grant has the same id.
    """

    id: str
    agent: str
    tool: str
    body: str
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class StoredThread:
    """A thread of the chat WebSocket, as all processes see it.

    Attributes:
        last: the number of the last frame that is kept.
        settled: the number of the last one whose content the stored conversation has.
        model: what was asked last.
        active: the frame that describes the running turn, as JSON.
        running: whether a turn runs in it, in a process that lives.
    """

    id: str
    last: int
    settled: int = 0
    model: str | None = None
    active: str = "null"
    running: bool = False


@dataclass(frozen=True, slots=True)
class ConversationTurn:
    """The items that a turn adds to a conversation. `transcript` is a hash by which it can be found afterwards."""

    id: str
    items: tuple[Item, ...]
    transcript: str | None = None


@dataclass(frozen=True, slots=True)
class WebhookNotice:
    """Something that another server is to be told.

    Attributes:
        id: stays the same however often it is sent.
        target: the name of whom it is for, which has no secret in it.
        body: what is sent, as JSON.
        attempt: how often it was sent in vain.
        number: its number in the store; 0 before it is there.
    """

    id: str
    target: str
    body: str
    attempt: int = 0
    number: int = 0


@dataclass(frozen=True, slots=True, order=True)
class Spend:
    """Tokens that a turn adds to what its principal has spent: in a period (`2026-11-30`, `2026-11`), of a unit."""

    period: str
    unit: str
    tokens: int


@dataclass(frozen=True, slots=True, order=True)
class Charge:
    """What a turn adds to one of its principal's rates: as many seconds as that takes to allow for it."""

    rate: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnCommit:
    """Everything that a turn writes, atomically.

    `events` are the last of the log of `response`, which needs a `begin_response` before if there are any.
    """

    principal: str
    token: str
    conversation: ConversationTurn | None = None
    response: StoredResponse | None = None
    events: Events | None = None
    completion: StoredCompletion | None = None
    approvals: tuple[Approval, ...] = ()
    states: tuple[AgentState, ...] = ()
    notices: tuple[WebhookNotice, ...] = ()
    spends: tuple[Spend, ...] = ()
    charges: tuple[Charge, ...] = ()


@dataclass(frozen=True, slots=True)
class Renewal:
    """The tokens that still hold what they took, and those of turns that are to end: cancelled, or superseded by newer ones."""

    held: frozenset[str]
    cancelled: frozenset[str]
    superseded: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Replay:
    """The recorded answer to the first request with an idempotency key."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


Claim: TypeAlias = Literal["taken", "running", "other request", "lost"] | Replay
"""The result of claiming an idempotency key: the request runs; the first one still runs; the key belongs to another
request; the first one's process has died, so that its outcome is unknown; or a replay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """An uploaded file. `size` is in bytes; with `expires` None it is kept while it is used."""

    id: str
    created: float
    filename: str
    purpose: str
    media_type: str
    size: int
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Allowance:
    """The answer of a rate limit: seconds to wait, 0 if the request may pass, and how many more could pass now."""

    wait: float
    remaining: int
