"""Work on a request that may go on without its client (detach): run once per idempotency key, and begun in time."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio

from ..aio.background import Failure, spawn
from ..errors import Unavailable
from ..http import ClientTooSlow
from ..policies.disconnect import Disconnect
from ..state.degraded import LateWork
from .exchange import Exchange
from .services import Services, logger


class Detachable(Protocol):
    """A request, over HTTP or a WebSocket, whose client may leave."""

    @property
    def request_id(self) -> str:
        """The id in the request's log lines."""
        ...

    goes_on: bool
    """True while the work goes on although its client has left."""

    def over(self) -> None:
        """Note that work that went on without its client is over."""
        ...

    def allow_detach(self) -> None:
        """Treat write failures as a disconnect, not as an error, from now on."""
        ...

    def detach(self) -> None:
        """Note that the client has left, but the work goes on: nothing more is sent."""
        ...


async def run_detachable(policy: Disconnect, exchange: Detachable, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work`. If this call is cancelled, the policy cancels the work too, or lets it go on without a client."""
    if policy.then == "cancel":
        await work()
        return
    await DetachableWork(exchange, work, policy.grace if policy.then == "detach" else math.inf).run()


def run_once(
    services: Services,
    exchange: Exchange,
    body: bytes,
    work: Callable[[], Awaitable[None]],
    policy: Disconnect | None = None,
) -> Awaitable[None]:
    """Run the work of a request, once per Idempotency-Key, and without its client if the policy says so."""
    policy, state = policy or services.settings.disconnect, services.state
    # Each call frame that is entered here stays in memory for as long as a stream lasts.
    once = (lambda: state.idempotency.run_or_replay(exchange, body, work)) if services.is_keyed(exchange) else work
    patience = services.settings.deadlines.request
    # A store in this process answers at once.
    start = (lambda: run_with_start_deadline(exchange, state.late, patience, once)) if state.store.shared else once
    return start() if policy.then == "cancel" else run_detachable(policy, exchange, start)


class StartingRequest(Protocol):
    """A request, over HTTP or a WebSocket, whose agent is not started yet.

    Attributes:
        on_begun: called once an agent is started, or already runs for the same idempotency key.
    """

    on_begun: Callable[[], object] | None


async def run_with_start_deadline(
    request: StartingRequest, late: LateWork, seconds: float, work: Callable[[], Awaitable[None]]
) -> None:
    """Run `work`, whose agent has to start within `seconds`. Raises Unavailable if it does not.

    For work on a store that may not answer: the steps before the agent wait for the store again and again. When the time is
    over, the work is cancelled, but its client does not wait for its end: operations that were begun in the store have to
    finish first, and are released then.
    """
    scope, failure, begun = anyio.CancelScope(), Failure(), anyio.Event()

    async def body() -> None:
        try:
            with scope:
                await work()
        except Exception as error:
            failure.keep(error)

    request.on_begun = begun.set
    task = spawn(body, "request", begun.set)
    try:
        with anyio.move_on_after(seconds):
            await begun.wait()
        if begun.is_set():
            await task.wait()
    except BaseException:
        scope.cancel()
        with anyio.CancelScope(shield=True):
            await task.wait()
        raise
    finally:
        request.on_begun = None
    if not task.done:
        scope.cancel()
        late.add(task)
        raise Unavailable("The request could not be begun in time, and no agent was started.")
    failure.raise_if_any()


class DetachableWork:
    """The work on a request, which goes on for `grace` seconds after its client has left.

    Attributes:
        alone: True once the client has left.
    """

    def __init__(self, exchange: Detachable, work: Callable[[], Awaitable[None]], grace: float) -> None:
        exchange.allow_detach()
        self._exchange = exchange
        self._work = work
        self._grace = grace
        self._scope = anyio.CancelScope()
        self._failure = Failure()
        self.alone = False

    async def run(self) -> None:
        """Run the work. If this call is cancelled, the work goes on without a client to write to."""
        task = spawn(self._run_work, "request that may go on without its client", lambda: None)
        try:
            await task.wait()
        except BaseException:
            self.alone = True
            self._exchange.detach()
            self._exchange.goes_on = not task.done
            self.start_grace_period()
            raise
        self._failure.raise_if_any()

    async def _run_work(self) -> None:
        try:
            with self._scope:
                await self._work()
        except Exception as error:
            self._failure.keep(error)
            if self.alone and not isinstance(error, ClientTooSlow):
                logger.info("%s: ended without its client: %s", self._exchange.request_id, type(error).__name__)
        finally:
            if self._exchange.goes_on:
                self._exchange.over()

    def start_grace_period(self) -> None:
        """Start the grace period: nobody waits for the work any more."""
        self._scope.deadline = anyio.current_time() + self._grace

    def end_grace_period(self) -> None:
        """End the grace period: somebody waits for the work again."""
        self._scope.deadline = math.inf
