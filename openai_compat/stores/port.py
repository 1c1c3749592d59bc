"""The store port: what every engine can do.

Everything is keyed by who owns it: another principal's id is an unknown id. Bodies are JSON text in ASCII, so that NUL
and lone surrogates survive any database.

A conversation has a version and a list of turns that only grows. A turn takes the conversation's lock with a random
token; whoever commits must still hold it, and committing is: check the token, append the turn, give the lock back, all
at once or not at all. An engine that several processes share lets locks of the dead expire.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Key:
    """Whose, and which."""

    principal: str
    id: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is known of a conversation; `created` and `touched` are unix seconds."""

    id: str
    version: int
    created: float
    touched: float
    turns: tuple[str, ...]
    """Each turn's messages, input and reply, as a JSON list in the form of the OpenAI chat API."""


@dataclass(frozen=True, slots=True)
class StoredCompletion:
    """A chat completion that its client wanted kept: the answer, and the messages that led to it, as JSON."""

    id: str
    created: float
    model: str
    metadata: dict[str, str]
    body: str
    messages: str


@dataclass(frozen=True, slots=True)
class Replay:
    """The recorded answer to the first request with an idempotency key."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


Claim = Literal["taken", "running", "other request"] | Replay
"""What becomes of a request with an idempotency key: it runs, another runs, the key is another request's, or replay."""


class Store(Protocol):
    """Keeps conversations, completions and idempotency keys. Every method may raise Unavailable."""

    async def begin(self, key: Key, token: str) -> Conversation | None:
        """Lock a conversation, known or new, for one turn and read it; None while another turn holds it."""
        ...

    async def commit(self, key: Key, token: str, turn: str, transcript: str | None) -> bool:
        """Append a turn and unlock. False, and nothing is changed, if `token` does not hold the lock.

        `transcript` is a hash by which the conversation as it then stands can be found again.
        """
        ...

    async def release(self, key: Key, token: str) -> None:
        """Unlock without a turn, if `token` still holds the lock. A conversation without turns is forgotten."""
        ...

    async def read(self, key: Key) -> Conversation | None:
        """A conversation that has at least one turn."""
        ...

    async def delete(self, key: Key) -> bool:
        """Forget a conversation, also while a turn runs in it: that turn's commit fails then. False if unknown."""
        ...

    async def find(self, principal: str, transcript: str) -> tuple[str, bool] | None:
        """The conversation that once stood at this transcript, and whether it still does."""
        ...

    async def put_completion(self, principal: str, completion: StoredCompletion) -> None:
        """Keep a completion, new or changed."""
        ...

    async def get_completion(self, key: Key) -> StoredCompletion | None:
        """One completion."""
        ...

    async def delete_completion(self, key: Key) -> bool:
        """Forget one completion; False if unknown."""
        ...

    async def list_completions(self, principal: str) -> Sequence[StoredCompletion]:
        """All of a principal's completions, oldest first."""
        ...

    async def claim(self, key: Key, request: str, token: str) -> Claim:
        """Take an idempotency key for a request, known by its hash."""
        ...

    async def settle(self, key: Key, token: str, replay: Replay | None) -> None:
        """Record the answer, or, with None, give the key back: nothing was run."""
        ...
