"""The store port, which every engine implements.

Everything is keyed by its owner: another principal's id is an unknown id. Bodies are JSON text in ASCII, so that NUL
and lone surrogates survive in any database. Times are unix seconds of the engine's clock, never the process's.

A running turn has a random *token*, by which it holds the lock of its conversation, its response's event log, a slot
and an idempotency key. A lock lasts `lease` seconds unless it is renewed; those of dead processes expire. The outcome
of a turn is written by one `commit`, which checks the token, writes everything and releases the locks, atomically.
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

# As long as OpenAI keeps responses.
RETENTION = 30 * 24 * 3600.0
"""Seconds for which unused data is kept."""

# Each call that is asked about is compared with all of them.
MOST_GRANTS = 100
"""Grants of one principal for one tool."""

LOG_BYTES = 16 * 1024 * 1024
"""Bytes of a response's events that are kept in memory for its readers; the oldest are dropped first."""


class ConversationStore(Protocol):
    """Conversations: a lock, and items that are only added to."""

    async def begin(self, key: Key, token: str, lease: float = LEASE, *, known: bool = False) -> Conversation | None:
        """Lock a conversation, known or new, for one turn and read it; None while another turn holds it.

        With `known`, also None if there is none that was created or has a turn.
        """
        ...

    async def release(self, key: Key, token: str) -> None:
        """Unlock without a turn, if `token` holds the lock. A conversation that never had a turn is deleted."""
        ...

    async def want(self, key: Key, token: str, seconds: float, *, newest: bool) -> bool:
        """Note for so many seconds that the turn of this token is to have the conversation next.

        Who holds it meanwhile learns by `renew` that it is superseded. With `newest`, the token takes the place of others
        that were noted before. Without, it is only noted again: False if a newer one was noted since.
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
        """Create a conversation, which is kept even while it is empty. `items`, if any, are its first turn.

        `state` is what that turn has left.
        """
        ...

    async def read(self, key: Key, *, items: bool = True) -> Conversation | None:
        """Read a conversation that was created or has a turn."""
        ...

    async def update(self, key: Key, metadata: Mapping[str, str]) -> Conversation | None:
        """Replace the metadata; None if unknown. The result has no items."""
        ...

    async def delete(self, key: Key) -> bool:
        """Delete a conversation; the commit of a turn that runs in it fails then. False if unknown."""
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

        Ties are ordered by id, the greatest first. `before` is the `touched` and id of one: the page begins after it;
        `offset` skips more.
        """
        ...

    async def page(self, key: Key, after: str | None, limit: int, order: Order) -> Page | None:
        """Items after the one called `after`, which may have been deleted; None if it never existed."""
        ...

    async def item(self, key: Key, item: str) -> Item | None:
        """One item; None if unknown or deleted."""
        ...

    async def delete_item(self, key: Key, item: str) -> bool:
        """Delete one item, which makes the state of the conversation an outdated one. False if unknown."""
        ...


class ResponseStore(Protocol):
    """Responses, their chains, and their event logs."""

    async def begin_response(self, principal: str, response: StoredResponse, token: str, lease: float = LEASE) -> None:
        """Insert a response that `token` holds, before it runs."""
        ...

    async def append(self, batches: Sequence[tuple[Key, str, Events]]) -> frozenset[str]:
        """Add to the event logs of several responses, each with the token that holds it. Returns the tokens that do.

        Of the others nothing is written. The first batch makes a queued response one in progress.
        """
        ...

    async def end_response(
        self, principal: str, response: StoredResponse, events: Events | None, notices: Sequence[WebhookNotice] = ()
    ) -> bool:
        """Set the outcome of a response whose process has died. False if it is still held, or has an outcome."""
        ...

    async def take_response(
        self, principal: str, response: StoredResponse, events: Events | None, notices: Sequence[WebhookNotice] = ()
    ) -> bool:
        """Set the outcome of a running response; its holder's commit fails then. False if it has an outcome."""
        ...

    async def lost_responses(self, limit: int) -> Sequence[Key]:
        """Responses in the background whose process has died, and which have no outcome yet."""
        ...

    async def cancel(self, key: Key) -> bool:
        """Request the cancellation of a response; its holder learns of it by `renew`. False if unknown or not running."""
        ...

    async def response(self, key: Key) -> StoredResponse | None:
        """A response with its own items."""
        ...

    async def chain(self, key: Key) -> Chain | None:
        """A response with all those it continues: each one's input, then its output.

        None if one of them is unknown or was deleted.
        """
        ...

    async def events(self, key: Key, after: int) -> Sequence[Events]:
        """The log's batches that hold numbers beyond `after`, in order; the first may begin before it."""
        ...

    async def delete_response(self, key: Key) -> bool:
        """Delete a response. False if unknown. Responses that continue it cannot be continued any more."""
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
        """A principal's completions, oldest first with `asc`, after the one called `after`, which may have been deleted.

        None if it never existed, or was deleted too long ago.
        """
        ...


class FileStore(Protocol):
    """Uploaded files, each with its content."""

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
        """A principal's files, in the same way."""
        ...

    async def delete_file(self, key: Key) -> bool:
        """Delete a file. False if unknown."""
        ...


class ApprovalStore(Protocol):
    """Tool calls that wait for a decision. Each is decided once."""

    async def ask(self, principal: str, approval: Approval) -> None:
        """Insert a question. Asked again, it stays one question."""
        ...

    async def approval(self, key: Key) -> Approval | None:
        """One question. Its `status` is "expired" after `expires`, unless it was decided."""
        ...

    async def approvals(self, principal: str, conversation: str | None = None) -> Sequence[Approval]:
        """The pending ones, oldest first, of one conversation or of all."""
        ...

    async def decide(self, key: Key, status: Literal["approved", "denied"], decision: str) -> bool:
        """Decide a question. False unless it is pending: only one caller ever gets True."""
        ...


class GrantStore(Protocol):
    """What people have allowed for always."""

    async def put_grant(self, principal: str, grant: Grant) -> None:
        """Add a grant, or make it the newest. Of one agent's tool, the MOST_GRANTS newest are kept."""
        ...

    async def grants(self, principal: str, tool: tuple[str, str] | None = None) -> Sequence[Grant]:
        """A principal's grants, oldest first: those for a tool, given as its agent and its name, or all."""
        ...

    async def delete_grant(self, key: Key) -> bool:
        """Take a grant back. False if unknown."""
        ...


class StateStore(Protocol):
    """What agents have left with their turns. It is written by `commit`, and goes with what it is kept with."""

    async def pause(self, key: Key) -> AgentState | None:
        """The state of calls that wait, neither in a conversation nor after a response; None if it is used up or expired."""
        ...

    async def use_pause(self, key: Key, seconds: float) -> bool:
        """Use that state. False unless it can be used: of several callers, one gets True.

        Nobody else can use it for so many seconds: then the process that does has died.
        """
        ...

    async def return_pause(self, key: Key) -> None:
        """Make a state usable again, since nothing came of its use."""
        ...

    async def end_pause(self, key: Key) -> None:
        """It is used up: what it was used for is done."""
        ...

    async def gone_states(self, after: Key | None, limit: int) -> Sequence[tuple[str, AgentState]]:
        """States that nothing leads to any more, with their principals, in the order of their keys, beyond `after`.

        Only those of whose session no other state is left: the session is not needed any more. Other ones are deleted.
        """
        ...

    async def forget_state(self, key: Key) -> None:
        """Delete the last state of a session, once its agent has been told to forget it."""
        ...


class OutboxStore(Protocol):
    """What other servers are to be told. It is written with the outcome that it tells of."""

    async def take_notices(
        self, target: str, token: str, limit: int, hold: float, ahead: float = 0.0
    ) -> Sequence[WebhookNotice]:
        """Take notices for a target whose time has come, or comes within `ahead` seconds; nobody else gets them.

        For `hold` seconds; then they are free again, since who has taken them has died.
        """
        ...

    async def defer_notice(self, number: int, token: str, seconds: float) -> None:
        """It was sent in vain: give it back, to be taken in so many seconds. Nothing if `token` does not have it."""
        ...

    async def end_notice(self, number: int) -> None:
        """Delete it: it was delivered, or given up."""
        ...

    async def targets(self) -> Mapping[str, int]:
        """How many notices wait for each target."""
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
        """True if several processes can use it."""
        ...

    async def commit(self, outcome: TurnCommit) -> bool:
        """Write the outcome of a turn and release its locks. False, and nothing is written, if `token` lost a lock.

        It can be repeated after a lost answer: True if the same token was committed before.
        """
        ...

    async def renew(self, tokens: Sequence[str], lease: float = LEASE) -> Renewal:
        """Renew the leases of everything that these tokens hold, for `lease` seconds."""
        ...

    async def claim(self, key: Key, request: str, token: str, lease: float = LEASE) -> Claim:
        """Claim an idempotency key for a request, given by its hash."""
        ...

    async def settle(self, key: Key, token: str, replay: Replay | None) -> None:
        """Record the answer, or, with None, release the key: nothing was run."""
        ...

    async def take_slot(self, pool: str, token: str, size: int, lease: float = LEASE) -> bool:
        """Take one of the `size` slots of a pool that all processes share. False if none is free."""
        ...

    async def free_slot(self, pool: str, token: str) -> None:
        """Release the slot that `token` has taken, if any."""
        ...

    async def allow(self, key: Key, per_second: float, burst: int) -> Allowance:
        """Count a request against a rate limit (GCRA): `burst` at once, then `per_second`."""
        ...

    async def sweep(self, retention: float = RETENTION) -> int:
        """Delete what was not used for `retention` seconds, and what has expired. Returns the number of rows."""
        ...

    async def check(self) -> None:
        """Return if the engine answers, raise Unavailable if it does not."""
        ...

    async def aclose(self) -> None:
        """Close the engine: its connections, files and threads."""
        ...
