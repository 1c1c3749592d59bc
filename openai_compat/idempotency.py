"""`Idempotency-Key`: the first request with a key runs, every later one gets its answer.

The rule is Stripe's: the answer is kept once an agent has started, failures too, since running it again could do
everything twice. Requests that were refused before are not kept, and their key is free again.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable

import anyio

from .errors import Conflict, InvalidRequest, OpenAICompatError
from .exchange import Exchange
from .serializers.errors import error_body
from .stores.port import Key, Replay, Store

MAX_KEY = 255
MAX_RECORDED = 8 * 1024 * 1024
"""Bytes of an answer that are kept for a replay; a longer one cannot be repeated."""

REPLAYED = ("Idempotent-Replayed", "true")


class Idempotency:
    """Runs each keyed request once. Duplicates that come meanwhile wait for the first one's end."""

    def __init__(self, store: Store, patience: float) -> None:
        self._store = store
        self._patience = patience
        self._ended: dict[Key, anyio.Event] = {}

    async def once(self, exchange: Exchange, body: bytes, run: Callable[[], Awaitable[None]]) -> None:
        """Call `run` unless the request carries a key that has been used: then answer as the first time.

        Raises InvalidRequest (422 `idempotency_key_reused`) for another body, Conflict if the first never ends.
        """
        sent = exchange.request.header(b"idempotency-key")
        if sent is None:
            await run()
            return
        key = Key(exchange.principal.id, _checked(sent))
        digest = hashlib.sha256(exchange.request.path.encode() + b"\0" + body).hexdigest()
        token = secrets.token_hex(16)
        replay = await self._claim(key, digest, token)
        if replay is not None:
            await exchange.repeat(replay.status, replay.headers, replay.body, REPLAYED)
        else:
            await self._first(exchange, key, token, run)

    async def _claim(self, key: Key, digest: str, token: str) -> Replay | None:
        """The recorded answer, None if this request is the first."""
        with anyio.move_on_after(self._patience):
            while True:
                claim = await self._store.claim(key, digest, token)
                if claim == "taken":
                    return None
                if claim == "other request":
                    raise _reused()
                if isinstance(claim, Replay):
                    return claim
                with anyio.move_on_after(1.0):  # another process may be running it
                    await self._ended.setdefault(key, anyio.Event()).wait()
        raise Conflict("The first request with this Idempotency-Key still runs.", code="idempotency_key_in_use")

    async def _first(self, exchange: Exchange, key: Key, token: str, run: Callable[[], Awaitable[None]]) -> None:
        exchange.record(MAX_RECORDED)
        try:
            await run()
        except OpenAICompatError as error:
            if not exchange.agent_started:
                raise
            await exchange.fail(error)
        finally:
            replay = (_recorded(exchange) or _unknown()) if exchange.agent_started else None
            with anyio.CancelScope(shield=True):
                await self._store.settle(key, token, replay)
            ended = self._ended.pop(key, None)
            if ended is not None:
                ended.set()


def _checked(key: str) -> str:
    if not 0 < len(key) <= MAX_KEY or not key.isprintable():
        text = f"An Idempotency-Key is text of 1 to {MAX_KEY} printable characters."
        raise InvalidRequest(text, param="Idempotency-Key", code="invalid_value")
    return key


def _reused() -> InvalidRequest:
    error = InvalidRequest(
        "This Idempotency-Key was used for another request.", param="Idempotency-Key", code="idempotency_key_reused"
    )
    error.status = 422
    return error


def _recorded(exchange: Exchange) -> Replay | None:
    recording = exchange.recording
    if recording is None or recording.body is None or not recording.complete:
        return None
    return Replay(exchange.status, tuple(recording.headers), b"".join(recording.body))


def _unknown() -> Replay:
    """For runs whose answer was not seen to its end: they must not run again, and cannot be repeated either."""
    text = "The first request with this Idempotency-Key was started, but its answer was lost."
    error = Conflict(text, code="idempotency_outcome_unknown", should_retry=False)
    return Replay(409, (("Content-Type", "application/json"), ("X-Should-Retry", "false")), error_body(error))
