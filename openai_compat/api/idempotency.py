"""`Idempotency-Key`: the first request with a key runs, every later one gets its answer.

The rule is Stripe's: once an agent has started, the answer is stored, even a failure, since another run could do
everything twice. Requests that were refused before are not stored, and their key is free again.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable, Iterable

import anyio

from ..errors import Conflict, InvalidRequest, OpenAICompatError
from ..http import HttpRequest, decode_headers
from ..policies.replay_failures import ReplayFailures
from ..state.degraded import LateWork
from ..state.leases import Leases
from ..state.recent_failures import MAX_BYTES, RecentFailures
from ..stores.port import Key, Replay, Store
from .answer_form import RecordedAnswer, whole_headers
from .exchange import Exchange

# The limit of Stripe, where the header comes from.
MAX_KEY = 255
MAX_RECORDED = 8 * 1024 * 1024
"""Longest answer that is stored for a replay, in bytes; a longer one cannot be repeated."""

POLL_INTERVAL = 1.0
"""Seconds after which duplicates check on their own if the first request has ended."""

REPLAYED_HEADER = ("Idempotent-Replayed", "true")

RETRIES_HEADER = b"x-stainless-retry-count"
"""The header in which OpenAI's SDKs, and all that are generated like them, count their earlier attempts."""


KEY_HEADER = b"idempotency-key"
"""The header, as requests have it."""


class Idempotency:
    """Runs each keyed request once. Duplicates that arrive meanwhile wait for the first one to end.

    Attributes:
        applies_to_all: True if requests without a key need `run_or_replay` too.
    """

    def __init__(
        self,
        store: Store,
        patience: float,
        leases: Leases,
        late: LateWork,
        headers: Iterable[str] = (),
        *,
        failures: ReplayFailures | None = None,
    ) -> None:
        """`headers` are the names of headers that influence the answer: the conversation's, and those that agents receive."""
        self._headers = sorted({name.lower().encode() for name in headers})
        self._store = store
        self._leases = leases
        self._late = late
        self._patience = patience
        self._ended: dict[Key, anyio.Event] = {}
        self._failures = None if failures is None else RecentFailures(failures)
        self.applies_to_all = failures is not None

    async def run_or_replay(self, exchange: Exchange, body: bytes, run: Callable[[], Awaitable[None]]) -> None:
        """Call `run`, unless the request has a key that was used before: then repeat the first answer.

        Raises InvalidRequest (422 `idempotency_key_reused`) if the body, or a header that influences the answer, is different,
        and Conflict if the first request does not end.
        """
        request = exchange.request
        sent = request.header(KEY_HEADER)
        if sent is None:
            await self._run_or_replay_failure(exchange, body, run)
            return
        key = Key(exchange.principal.id, _check_key(sent))
        digest = self._digest(request, body)
        token = secrets.token_hex(16)
        try:
            replay = await self._claim(exchange, key, digest, token)
        except BaseException:
            # the store may have recorded the claim before the cancellation
            await self._late.run_shielded(lambda: self._store.settle(key, token, None), "idempotency key given back")
            raise
        if replay is not None:
            await exchange.repeat(replay.status, [*replay.headers, REPLAYED_HEADER], replay.body)
        else:
            await self._run_first(exchange, key, token, run)

    async def _run_or_replay_failure(self, exchange: Exchange, body: bytes, run: Callable[[], Awaitable[None]]) -> None:
        """Call `run`; or, with `replay_failures`, repeat the recent failure of an identical request."""
        failures = self._failures
        if failures is None:
            await run()
            return
        key = Key(exchange.principal.id, self._digest(exchange.request, body))
        replay = failures.find(key, exchange.request.header(RETRIES_HEADER))
        if replay is not None:
            await exchange.repeat(replay.status, [*replay.headers, REPLAYED_HEADER], replay.body)
            return
        exchange.recording = RecordedAnswer(MAX_BYTES)
        exchange.on_failed = lambda failed: failures.keep(key, _to_replay(failed) or _unknown_outcome_replay(failed))
        await _run_and_answer(exchange, run)

    def _digest(self, request: HttpRequest, body: bytes) -> str:
        """A hash of everything that influences the answer."""
        values = [request.header_values(name) for name in self._headers]
        place = json.dumps([request.method, request.path, request.query, values])
        return hashlib.sha256(place.encode() + b"\0" + body).hexdigest()

    async def _claim(self, exchange: Exchange, key: Key, digest: str, token: str) -> Replay | None:
        """The recorded answer, None if this request is the first."""
        with anyio.move_on_after(self._patience):
            while True:
                claim = await self._store.claim(key, digest, token, self._leases.seconds)
                if claim == "taken":
                    return None
                if claim == "other request":
                    raise _reused_key()
                if claim == "lost":
                    raise _unknown_outcome()
                if isinstance(claim, Replay):
                    return claim
                exchange.has_begun()  # an agent runs, though for another request
                with anyio.move_on_after(POLL_INTERVAL):  # another process may be running it
                    await self._ended.get(key, anyio.Event()).wait()
        raise Conflict("The first request with this Idempotency-Key still runs.", code="idempotency_key_in_use")

    async def _run_first(self, exchange: Exchange, key: Key, token: str, run: Callable[[], Awaitable[None]]) -> None:
        exchange.recording = RecordedAnswer(MAX_RECORDED)
        if self._store.shared:
            self._leases.hold(token, _ignore_lost_lease)  # a lost lease needs no action: `settle` is tried in any case
        self._ended[key] = anyio.Event()
        try:
            await _run_and_answer(exchange, run)
        finally:
            self._leases.drop(token)
            replay = (_to_replay(exchange) or _unknown_outcome_replay(exchange)) if exchange.agent_started else None
            await self._late.run_shielded(lambda: self._settle(key, token, replay), "idempotency key settled")

    async def _settle(self, key: Key, token: str, replay: Replay | None) -> None:
        try:
            await self._store.settle(key, token, replay)
        finally:
            ended = self._ended.pop(key, None)
            if ended is not None:
                ended.set()


async def _run_and_answer(exchange: Exchange, run: Callable[[], Awaitable[None]]) -> None:
    """Call `run`. If an agent was started, its failure is the answer."""
    try:
        await run()
    except OpenAICompatError as error:
        if not exchange.agent_started:
            raise
        await exchange.fail(error)


def _check_key(key: str) -> str:
    if not 0 < len(key) <= MAX_KEY or not key.isprintable():
        text = f"An Idempotency-Key is text of 1 to {MAX_KEY} printable characters."
        raise InvalidRequest(text, param="Idempotency-Key", code="invalid_value")
    return key


def _reused_key() -> InvalidRequest:
    error = InvalidRequest(
        "This Idempotency-Key was used for another request.", param="Idempotency-Key", code="idempotency_key_reused"
    )
    error.status = 422
    return error


def _to_replay(exchange: Exchange) -> Replay | None:
    recording = exchange.recording
    if recording is None or recording.body is None or not recording.complete:
        return None
    return Replay(exchange.status, tuple(recording.headers), b"".join(recording.body))


def _unknown_outcome() -> Conflict:
    """The error for runs whose answer was lost: they must not run again, and cannot be repeated either."""
    text = "The first request with this Idempotency-Key was started, but its answer was lost."
    return Conflict(text, code="idempotency_outcome_unknown", should_retry=False)


def _ignore_lost_lease(error: OpenAICompatError) -> None:
    pass


def _unknown_outcome_replay(exchange: Exchange) -> Replay:
    error = _unknown_outcome()
    body = exchange.errors.body(error, exchange.request_id)
    return Replay(409, (*decode_headers(whole_headers(body)), *exchange.errors.headers(error)), body)
