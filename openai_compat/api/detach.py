"""Lets the work on a request go on when its client has left, as the Disconnect policy says."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio

from ..aio.background import Failure, spawn
from ..http import ClientTooSlow
from ..policies.disconnect import Disconnect
from .exchange import Exchange
from .services import Services, logger


class Detachable(Protocol):
    """A request, over HTTP or a WebSocket, whose client may leave."""

    @property
    def request_id(self) -> str:
        """Where its log lines are."""
        ...

    def allow_detach(self) -> None:
        """Treat write failures as a disconnect, not as an error, from now on."""
        ...

    def detach(self) -> None:
        """The client has left, but the work goes on: nothing more is sent."""
        ...


async def run_detachable(policy: Disconnect, exchange: Detachable, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work`. If this call is cancelled meanwhile, the work is too, or goes on with nobody to write to."""
    if policy.then == "cancel":
        await work()
        return
    exchange.allow_detach()
    detached = _Detached(exchange, work)
    task = spawn(detached.run, "request that may go on without its client", lambda: None)
    try:
        await task.wait()
    except BaseException:
        detached.leave(policy.grace if policy.then == "detach" else math.inf)
        raise
    detached.failure.raise_if_any()


def run_once(
    services: Services,
    exchange: Exchange,
    body: bytes,
    work: Callable[[], Awaitable[None]],
    policy: Disconnect | None = None,
) -> Awaitable[None]:
    """Do the work of a request, once for its Idempotency-Key, also if its client leaves where the policy says so."""
    policy, idempotency = policy or services.settings.disconnect, services.state.idempotency
    if policy.then == "cancel":
        # A stream holds each frame that is entered here for as long as it lasts.
        return idempotency.once(exchange, body, work) if idempotency.concerns(exchange) else work()
    return run_detachable(policy, exchange, lambda: idempotency.once(exchange, body, work))


class _Detached:
    def __init__(self, exchange: Detachable, work: Callable[[], Awaitable[None]]) -> None:
        self._exchange = exchange
        self._work = work
        self._scope = anyio.CancelScope()
        self._alone = False
        self.failure = Failure()

    async def run(self) -> None:
        try:
            with self._scope:
                await self._work()
        except Exception as error:
            self.failure.keep(error)
            if self._alone and not isinstance(error, ClientTooSlow):
                logger.info("%s: ended without its client: %s", self._exchange.request_id, type(error).__name__)

    def leave(self, grace: float) -> None:
        """The client is gone: nothing is sent any more, and the rest has `grace` seconds."""
        self._alone = True
        self._exchange.detach()
        self._scope.deadline = anyio.current_time() + grace
