"""The records that a store reads and writes. Public as names of `openai_compat.stores.port`."""

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
    """The state that an agent leaves after a turn, for the turn that continues it.

    Attributes:
        of: what the state belongs to: a conversation, a response, or paused calls that have neither ("pause"). "gone" marks
            an unreachable state.
        id: the id of the conversation, response or pause.
        agent: the name of the agent.
        session: shared by all states that follow from one another.
        body: the state, as JSON.
        version: the version of the state's format, as declared by the agent.
        paused: True if calls wait there for results or decisions.
        turn: the turn of the conversation after which it was stored, counted from 1; outdated if turns follow.
        expires: the time after which the calls can no longer be answered.
    """

    # The lookup key, deleted together with its owner: no agent has to look up its own states.
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
        """The same state, marked as unreachable."""
        return replace(self, of="gone", id=f"{self.of}:{self.id}:{self.session}", expires=None)


@dataclass(frozen=True, slots=True)
class Item:
    """One conversation item in Responses API format: `body` is its JSON, which has the same `id`."""

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
        """The agent's state after the last turn; None if that turn left none."""
        return self.state if self.state is not None and self.state.turn == self.version else None


@dataclass(frozen=True, slots=True)
class Chain:
    """The items of a response and of all the responses it continues, oldest first, and the response's agent state."""

    items: tuple[Item, ...]
    state: AgentState | None = None


@dataclass(frozen=True, slots=True)
class ConversationPage:
    """A page of a principal's conversations, without their items, and their total number."""

    conversations: tuple[Conversation, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list: the items after the cursor, and `more`, which is True if others follow."""

    items: tuple[Item, ...]
    more: bool


Order: TypeAlias = Literal["asc", "desc"]
ResponseStatus: TypeAlias = Literal["queued", "in_progress", "completed", "failed", "incomplete", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    """A response: the answer, and the items it was made from.

    Attributes:
        body: the Response object, as JSON.
        previous: the response that it continues; None if it begins a chain.
        conversation: the conversation that it belongs to, if any.
        input: the request's own items.
        output: the items of the answer.
        alive: False if it has no outcome and its process has died, so that no turn holds it.
        cancel: True if its cancellation was requested.
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
        turn: the response or completion that requested the approval.
        agent: the name of the agent.
        digest: a hash of tool and arguments.
        state: the agent's state when it paused, as JSON.
        decision: the decision, as JSON.
        request: the agent's request, as JSON, so that a decision can resume the turn without the client sending it again.
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
    """An always-allow grant for calls of an agent's tool; `body` is JSON that says which calls.

    Equal grants have the same id.
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
        last: the number of the last stored frame.
        settled: the number of the last frame whose content is in the stored conversation.
        model: the model of the latest request.
        active: the frame that describes the running turn, as JSON.
        running: True if a turn runs in it, in a live process.
    """

    id: str
    last: int
    settled: int = 0
    model: str | None = None
    active: str = "null"
    running: bool = False


@dataclass(frozen=True, slots=True)
class ConversationTurn:
    """The items that a turn adds to a conversation. `transcript` is a hash by which the conversation can be found later."""

    id: str
    items: tuple[Item, ...]
    transcript: str | None = None


@dataclass(frozen=True, slots=True)
class WebhookNotice:
    """A webhook notice for another server.

    Attributes:
        id: the same in every attempt.
        target: the name of the recipient, which contains no secret.
        body: the payload, as JSON.
        attempt: number of failed deliveries so far.
        number: its number in the store; 0 before it is stored.
    """

    id: str
    target: str
    body: str
    attempt: int = 0
    number: int = 0


@dataclass(frozen=True, slots=True, order=True)
class Spend:
    """Tokens that a turn adds to its principal's use, in a period (`2026-11-30`, `2026-11`) and a unit."""

    period: str
    unit: str
    tokens: int


@dataclass(frozen=True, slots=True, order=True)
class Charge:
    """The seconds that a turn adds to one of its principal's rates: the time until the rate allows for them."""

    rate: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnCommit:
    """Everything that a turn writes, atomically.

    `events` are the last ones of the log of `response`. They require an earlier `begin_response`.
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
    """Tokens that still hold their locks, and tokens of turns that must end: cancelled, or superseded by newer turns."""

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
"""The result of claiming an idempotency key. "taken": run the request. "running": the first request still runs.
"other request": the key belongs to another request. "lost": the first request's process has died, so that its outcome
is unknown. Otherwise a replay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """An uploaded file. `size` is in bytes; if `expires` is None, the file is stored as long as it is used."""

    id: str
    created: float
    filename: str
    purpose: str
    media_type: str
    size: int
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Allowance:
    """A rate limit's answer: seconds to wait, 0 if the request may pass, and the number of further requests that may pass."""

    wait: float
    remaining: int
