"""Threads: the server stores the conversation history, and the client sends only new messages.

Each turn of a thread is stored under the id of its answer, as a response that continues the previous one. An answer can
be continued only once: the store enforces this the same way as for idempotency keys.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ...aio.off_loop import MANY, run_off_loop
from ...errors import Conflict, NotFound, OpenAICompatError
from ...messages import Message
from ...state.conversation_locks import to_stored_items
from ...state.ids import new_id
from ...stores.port import AgentState, Key, Replay, StoredResponse
from ...wire.anthropic_messages.parse import ParsedMessages, with_history
from ...wire.items.parse import parse_items
from ...wire.json import from_stored_json, stored_json
from ...wire.reducer import FinalMessage
from ...wire.serialize_messages import items_of, reply_message
from ..services import Services, now

CLAIM_PREFIX = "\x1fthread:"
"""Prefix of the key that marks an answer as continued. No client can send a key that starts with it."""

CONTINUED = Replay(200, (), b"")


@dataclass(frozen=True, slots=True)
class RequestThread:
    """The thread of one request.

    Attributes:
        parsed: the request with the earlier messages.
        new: how many of its messages are new.
        previous: the id of the answer that it continues.
        state: the agent state stored with that answer.
    """

    parsed: ParsedMessages
    new: int
    previous: str | None = None
    state: AgentState | None = None

    def to_stored_response(self, identifier: str, reply: FinalMessage) -> StoredResponse:
        """The turn as it is stored."""
        messages: Sequence[Message] = self.parsed.request.messages[len(self.parsed.request.messages) - self.new :]
        said = [item for message in messages for item in items_of(message, new_id)]
        body = {"object": "message", "tools": self.parsed.body.get("tools")}
        return StoredResponse(
            id=identifier,
            created=now(),
            status="completed",
            body=stored_json(body),
            previous=self.previous,
            input=to_stored_items(said),
            output=to_stored_items(items_of(reply_message(reply, frozenset()), new_id)),
        )


@asynccontextmanager
async def hold_thread(services: Services, parsed: ParsedMessages) -> AsyncGenerator[RequestThread | None]:
    """The thread that a request begins or continues, held until its turn ends. None for a request without a thread.

    Raises NotFound (`thread_not_found`) if the thread is not stored, and Conflict (400) if another request continues, or
    has continued, the same answer.
    """
    if parsed.thread is None:
        yield None
        return
    await services.state.check_available()
    if not parsed.thread:
        yield RequestThread(parsed, len(parsed.request.messages))
        return
    store, principal = services.state.store, parsed.request.principal.id
    key, token = Key(principal, CLAIM_PREFIX + parsed.thread), secrets.token_hex(16)
    used: Replay | None = None
    try:
        thread = await _load_thread(services, parsed, Key(principal, parsed.thread))
        await _claim(services, key, token)
        if store.shared:
            services.state.leases.hold(token, _ignore_lost_lease)
        yield thread
        used = CONTINUED
    finally:
        services.state.leases.drop(token)
        await services.state.late.run_shielded(lambda: store.settle(key, token, used), "thread given free")


async def _load_thread(services: Services, parsed: ParsedMessages, key: Key) -> RequestThread:
    chain = await services.state.store.chain(key)
    found = await services.state.store.response(key)
    kept: dict[str, Any] = {} if found is None else from_stored_json(found.body)
    if chain is None or kept.get("object") != "message":
        raise _unknown_thread()
    before = await run_off_loop(
        lambda: parse_items([from_stored_json(item.body) for item in chain.items]), long=len(chain.items) > MANY
    )
    whole = await run_off_loop(with_history, parsed, before, kept.get("tools"), long=len(chain.items) > MANY)
    return RequestThread(whole, len(whole.request.messages) - len(before), key.id, chain.state)


async def _claim(services: Services, key: Key, token: str) -> None:
    claim = await services.state.store.claim(key, "", token, services.state.leases.seconds)
    if claim == "taken":
        return
    if isinstance(claim, Replay):
        text = "This answer was continued already: continue the newest one of the thread."
        raise _conflict(text, code="thread_already_continued")
    if claim == "running":
        raise _conflict("Another request continues this answer now.", code="thread_continue_in_flight")
    raise _unknown_thread()  # the process that continued it has died


def _unknown_thread() -> NotFound:
    text = "No thread is kept for this message: send the whole conversation with a new thread."
    return NotFound(text, code="thread_not_found", param="thread.previous_message_id")


def _conflict(text: str, *, code: str) -> Conflict:
    error = Conflict(text, code=code, param="thread.previous_message_id", should_retry=False)
    error.status = 400
    return error


def _ignore_lost_lease(error: OpenAICompatError) -> None:
    pass
