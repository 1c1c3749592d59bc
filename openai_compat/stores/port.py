"""The store port, which every engine implements.

Every record is keyed by its owner: another principal's id counts as unknown. Bodies are JSON text in ASCII, so that NUL
and lone surrogates survive in any database. Times are unix seconds of the engine's clock, never the process's.

A running turn has a random *token*. With this token it holds its conversation's lock, its response's event log, a slot
and an idempotency key. A lock expires after `lease` seconds unless it is renewed, so locks of dead processes expire.
One `commit` writes the outcome of a turn: it checks the token, writes everything and releases the locks, atomically.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from ..policies.limits import LEASE
from .records import (
    AgentState,
    Allowance,
    Approval,
    Chain,
    Charge,
    Claim,
    Conversation,
    ConversationPage,
    ConversationTurn,
    Events,
    Grant,
    Item,
    Key,
    Order,
    Page,
    Renewal,
    Replay,
    ResponseStatus,
    Spend,
    StoredCompletion,
    StoredFile,
    StoredResponse,
    StoredThread,
    TurnCommit,
    WebhookNotice,
)
from .setting_port import SettingStore
from .spend_port import SpendStore
from .thread_port import ThreadStore

__all__ = (
    "AgentState",
    "Allowance",
    "Approval",
    "ApprovalStore",
    "Chain",
    "Charge",
    "Claim",
    "CompletionStore",
    "Conversation",
    "ConversationPage",
    "ConversationStore",
    "ConversationTurn",
    "Events",
    "FileStore",
    "Grant",
    "GrantStore",
    "Item",
    "Key",
    "Order",
    "OutboxStore",
    "Page",
    "Renewal",
    "Replay",
    "ResponseStatus",
    "ResponseStore",
    "SettingStore",
    "Spend",
    "SpendStore",
    "StateStore",
    "Store",
    "StoredCompletion",
    "StoredFile",
    "StoredResponse",
    "StoredThread",
    "ThreadStore",
    "TurnCommit",
    "WebhookNotice",
)

# OpenAI stores responses for the same time.
RETENTION = 30 * 24 * 3600.0
"""Retention of unused data, in seconds."""

# Each call that needs approval is compared with all of them.
MOST_GRANTS = 100
"""Maximum number of grants of one principal for one tool."""

LOG_BYTES = 16 * 1024 * 1024
"""Bytes of a response's events that are buffered in memory for its readers; the oldest are dropped first."""


class ConversationStore(Protocol):
    """Conversations: a lock and an append-only list of items."""

    async def begin(self, key: Key, token: str, lease: float = LEASE, *, known: bool = False) -> Conversation | None:
        """Lock a conversation, known or new, for one turn and read it; None while another turn holds the lock.

        With `known`, also None unless the conversation was created explicitly or has a turn.
        """
        ...

    async def release(self, key: Key, token: str) -> None:
        """Unlock without a turn, if `token` holds the lock. A conversation that never had a turn is deleted."""
        ...

    async def want(self, key: Key, token: str, seconds: float, *, newest: bool) -> bool:
        """Register the turn with this token, for `seconds` seconds, as the next one to get the conversation.

        `renew` reports to the lock's holder that it is superseded. With `newest`, the token replaces earlier registrations.
        Otherwise its registration is only refreshed: False if a newer turn has registered since.
        """
        ...

    async def create(
        self,
        principal: str,
        id: str,
        metadata: Mapping[str, str],
        items: Sequence[Item],
        state: AgentState | None = None,
    ) -> Conversation:
        """Create a conversation, which is stored even while it is empty. `items`, if any, are its first turn.

        `state` is the agent's state after that turn.
        """
        ...

    async def read(self, key: Key, *, items: bool = True) -> Conversation | None:
        """Read a conversation that was created explicitly or has a turn."""
        ...

    async def update(self, key: Key, metadata: Mapping[str, str]) -> Conversation | None:
        """Replace the metadata; None if unknown. The result has no items."""
        ...

    async def delete(self, key: Key) -> bool:
        """Delete a conversation; the commit of a turn that runs in it then fails. False if unknown."""
        ...

    async def find(self, principal: str, transcript: str) -> tuple[str, bool] | None:
        """The conversation that once had this transcript, and True if that is still its current one."""
        ...

    async def conversations(
        self,
        principal: str,
        labels: Mapping[str, str],
        limit: int,
        offset: int = 0,
        before: tuple[float, str] | None = None,
    ) -> ConversationPage:
        """Conversations with these labels in their metadata, most recently used first.

        Ties are ordered by id, descending. `before` is the `touched` and id of a conversation: the page begins after it;
        `offset` skips more.
        """
        ...

    async def page(self, key: Key, after: str | None, limit: int, order: Order) -> Page | None:
        """Items after the item with the id `after`, which may have been deleted; None if it never existed."""
        ...

    async def item(self, key: Key, item: str) -> Item | None:
        """One item; None if unknown or deleted."""
        ...

    async def delete_item(self, key: Key, item: str) -> bool:
        """Delete one item, which invalidates the conversation's agent state. False if unknown."""
        ...


class ResponseStore(Protocol):
    """Responses, their chains, and their event logs."""

    async def begin_response(self, principal: str, response: StoredResponse, token: str, lease: float = LEASE) -> None:
        """Insert a response that `token` holds, before it runs."""
        ...

    async def append(self, batches: Sequence[tuple[Key, str, Events]]) -> frozenset[str]:
        """Append to the event logs of several responses, each with its holder's token. Return the tokens that still hold theirs.

        Nothing is written for the other tokens. The first batch sets a queued response to in progress.
        """
        ...

    async def end_response(
        self, principal: str, response: StoredResponse, events: Events | None, notices: Sequence[WebhookNotice] = ()
    ) -> bool:
        """Set the outcome of a response whose process has died. False if a turn still holds it, or if it has an outcome."""
        ...

    async def take_response(
        self, principal: str, response: StoredResponse, events: Events | None, notices: Sequence[WebhookNotice] = ()
    ) -> bool:
        """Set the outcome of a running response; its holder's commit then fails. False if it has an outcome."""
        ...

    async def lost_responses(self, limit: int) -> Sequence[Key]:
        """Background responses whose process has died, and which have no outcome yet."""
        ...

    async def cancel(self, key: Key) -> bool:
        """Request the cancellation of a response; `renew` reports it to the holder. False if unknown or not running."""
        ...

    async def response(self, key: Key) -> StoredResponse | None:
        """A response with its own items."""
        ...

    async def chain(self, key: Key) -> Chain | None:
        """A response together with all the responses it continues: the input of each, then its output.

        None if one of them is unknown or was deleted.
        """
        ...

    async def events(self, key: Key, after: int) -> Sequence[Events]:
        """The log's batches with events numbered above `after`, in order; the first batch may begin before `after`."""
        ...

    async def delete_response(self, key: Key) -> bool:
        """Delete a response. False if unknown. Responses that continue it can no longer be continued."""
        ...


class CompletionStore(Protocol):
    """Chat completions that were made with `store: true`."""

    async def put_completion(self, principal: str, completion: StoredCompletion) -> None:
        """Insert or replace a completion."""
        ...

    async def get_completion(self, key: Key) -> StoredCompletion | None:
        """One completion; None if unknown or deleted."""
        ...

    async def delete_completion(self, key: Key) -> bool:
        """Delete a completion. False if unknown."""
        ...

    async def list_completions(
        self, principal: str, after: str | None = None, order: Order = "asc"
    ) -> Sequence[StoredCompletion] | None:
        """A principal's completions, oldest first with `asc`, after the one with the id `after`, which may have been deleted.

        None if `after` never existed, or was deleted too long ago.
        """
        ...


class FileStore(Protocol):
    """Uploaded files with their content."""

    async def put_file(self, principal: str, file: StoredFile, content: bytes) -> None:
        """Insert or replace a file."""
        ...

    async def get_file(self, key: Key) -> StoredFile | None:
        """A file without its content; None if unknown or expired."""
        ...

    async def file_content(self, key: Key) -> bytes | None:
        """The content of a file; None if unknown or expired."""
        ...

    async def list_files(
        self, principal: str, after: str | None = None, order: Order = "asc"
    ) -> Sequence[StoredFile] | None:
        """A principal's files, with the same pagination as `list_completions`."""
        ...

    async def delete_file(self, key: Key) -> bool:
        """Delete a file. False if unknown."""
        ...


class ApprovalStore(Protocol):
    """Approvals: tool calls that wait for a decision. Each is decided once."""

    async def ask(self, principal: str, approval: Approval) -> None:
        """Insert a pending approval. Repeating the call does not add a second one."""
        ...

    async def approval(self, key: Key) -> Approval | None:
        """One approval. Its `status` is "expired" after `expires`, unless it was decided."""
        ...

    async def approvals(self, principal: str, conversation: str | None = None) -> Sequence[Approval]:
        """Pending approvals, oldest first, of one conversation or of all."""
        ...

    async def decide(self, key: Key, status: Literal["approved", "denied"], decision: str) -> bool:
        """Decide an approval. False unless it is pending: only one caller ever gets True."""
        ...


class GrantStore(Protocol):
    """Always-allow grants."""

    async def put_grant(self, principal: str, grant: Grant) -> None:
        """Add a grant, or make it the newest. Only the MOST_GRANTS newest of one agent's tool are stored."""
        ...

    async def grants(self, principal: str, tool: tuple[str, str] | None = None) -> Sequence[Grant]:
        """A principal's grants, oldest first: all of them, or those for `tool`, an agent's name and a tool's name."""
        ...

    async def delete_grant(self, key: Key) -> bool:
        """Revoke a grant. False if unknown."""
        ...


class StateStore(Protocol):
    """Agent state left by turns. `commit` writes it; it is deleted with its conversation, response or pause."""

    async def pause(self, key: Key) -> AgentState | None:
        """The state of paused calls that belong to no conversation or response; None if it is used up or expired."""
        ...

    async def use_pause(self, key: Key, seconds: float) -> bool:
        """Reserve that state for use. Only one of several concurrent callers gets True; False if it cannot be used.

        Nobody else can use it for `seconds` seconds; after that, its user is presumed dead.
        """
        ...

    async def return_pause(self, key: Key) -> None:
        """Make a state usable again, since its use had no outcome."""
        ...

    async def end_pause(self, key: Key) -> None:
        """Mark a state as used up: the turn that used it is done."""
        ...

    async def gone_states(self, after: Key | None, limit: int) -> Sequence[tuple[str, AgentState]]:
        """Unreachable states with their principals, ordered by key, beyond `after`.

        Only the last state of each session is returned: its session is no longer needed. The other states are deleted.
        """
        ...

    async def forget_state(self, key: Key) -> None:
        """Delete the last state of a session, once its agent has forgotten the session."""
        ...


class OutboxStore(Protocol):
    """Webhook notices to other servers. Each is written in the same transaction as the outcome it reports."""

    async def take_notices(
        self, target: str, token: str, limit: int, hold: float, ahead: float = 0.0
    ) -> Sequence[WebhookNotice]:
        """Take notices for a target that are due now or within `ahead` seconds; no other caller gets them.

        The lease lasts `hold` seconds. After that the notices are free again, since their taker has died.
        """
        ...

    async def defer_notice(self, number: int, token: str, seconds: float) -> None:
        """Return a notice after a failed delivery, to be retried in `seconds` seconds. No effect unless `token` holds it."""
        ...

    async def end_notice(self, number: int) -> None:
        """Delete a notice that was delivered or given up."""
        ...

    async def targets(self) -> Mapping[str, int]:
        """Number of waiting notices per target."""
        ...


class Store(
    ConversationStore,
    ResponseStore,
    CompletionStore,
    FileStore,
    ApprovalStore,
    GrantStore,
    StateStore,
    OutboxStore,
    SettingStore,
    SpendStore,
    ThreadStore,
    Protocol,
):
    """All state of a server. Every method may raise Unavailable (503 `store_unavailable`)."""

    @property
    def shared(self) -> bool:
        """True if several processes can share the store."""
        ...

    async def commit(self, outcome: TurnCommit) -> bool:
        """Write the outcome of a turn and release its locks. If `token` has lost a lock, write nothing and return False.

        The call can be repeated after a lost answer: True if the same token was committed before.
        """
        ...

    async def renew(self, tokens: Sequence[str], lease: float = LEASE) -> Renewal:
        """Renew the leases of everything that these tokens hold, for `lease` seconds."""
        ...

    async def claim(self, key: Key, request: str, token: str, lease: float = LEASE) -> Claim:
        """Claim an idempotency key for a request, given by its hash."""
        ...

    async def settle(self, key: Key, token: str, replay: Replay | None) -> None:
        """Record the answer of an idempotency key; with None, release the key because nothing was run."""
        ...

    async def take_slot(self, pool: str, token: str, size: int, lease: float = LEASE) -> bool:
        """Take one of the `size` slots of a pool that all processes share. False if none is free."""
        ...

    async def free_slot(self, pool: str, token: str) -> None:
        """Release the slot that `token` holds, if any."""
        ...

    async def allow(self, key: Key, per_second: float, burst: int) -> Allowance:
        """Count a request against a rate limit (GCRA): a burst of `burst` requests, then `per_second`."""
        ...

    async def sweep(self, retention: float = RETENTION) -> int:
        """Delete data that is expired or was unused for `retention` seconds. Return the number of rows."""
        ...

    async def check(self) -> None:
        """Return if the engine answers; raise Unavailable if it does not."""
        ...

    async def aclose(self) -> None:
        """Close the engine: its connections, files and threads."""
        ...
