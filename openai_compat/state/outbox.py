"""Delivers webhooks, which wait in the store after the commit of the outcome that they report.

So an event is delivered at least once, even if processes die: any server with the same settings takes notices that are
due, and deletes each once an attempt was answered with 2xx, or all have failed. An event's id is the same each time.
"""

from __future__ import annotations

import heapq
import logging
import math
import random
import secrets
import time
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

import anyio

from ..aio.background import Task, spawn
from ..errors import Unavailable
from ..policies.hooks import WebhookAttempt
from ..stores.port import Store, WebhookNotice
from .degraded import PATIENCE, with_timeout
from .webhooks import Webhooks, event_body, signed_headers

POLL = 1.0
"""Seconds between two polls for notices that other processes have left, and for due retries."""
MAX_CONCURRENT = 8
"""Maximum number of concurrent attempts to one URL."""
BACKOFF_FACTOR = 4.0
"""Back-off factor between two waits."""
MAX_WAIT = 600.0
"""Longest wait, in seconds."""
MARGIN = 5.0
"""Seconds beyond an attempt's timeout after which the taker of a notice is presumed dead."""
GONE = 410
"""The status with which a receiver stops further attempts."""

logger = logging.getLogger("openai_compat")


class Receiver:
    """One URL of one `Webhooks`, and its running deliveries.

    Attributes:
        more: True if some due notices did not fit.
    """

    def __init__(self, webhooks: Webhooks, url: str) -> None:
        self.webhooks = webhooks
        self.url = url
        self.target = webhooks.target(url)
        self.running: dict[int, tuple[WebhookNotice, Task]] = {}
        self.more = False

    def log_text(self, notice: WebhookNotice) -> str:
        """A notice for the log, without the URL's password and query, which may be secret."""
        parts = urlsplit(self.url)
        return f"{notice.id} to {parts.scheme}://{parts.hostname}{parts.path}"

    async def attempt(self, notice: WebhookNotice) -> str:
        """Send once. Return "done", or the failure in a word."""
        body = notice.body.encode()
        headers = signed_headers(self.webhooks.keys, notice.id, int(time.time()), body)
        try:
            with anyio.move_on_after(self.webhooks.timeout):
                status = await self.webhooks.post(self.url, headers, body)
                return "done" if 200 <= status < 300 else str(status)
        except Exception as error:
            return type(error).__name__  # its text may contain the URL
        return "timeout"


class Outbox:
    """Writes and delivers the webhooks of one server; `sent` is called after each attempt.

    Raises ValueError for two webhooks that cannot be told apart.
    """

    def __init__(
        self,
        store: Store,
        webhooks: Webhooks | Iterable[Webhooks] = (),
        sent: Callable[[WebhookAttempt], None] | None = None,
    ) -> None:
        several = [webhooks] if isinstance(webhooks, Webhooks) else list(webhooks)
        self._store = store
        self._sent = sent
        self._webhooks = several
        self._receivers = [Receiver(one, url) for one in several for url in one.urls]
        if len({receiver.target for receiver in self._receivers}) < len(self._receivers):
            raise ValueError("several webhooks with the same URL need a 'name' each")
        self._token = "hook_" + secrets.token_hex(16)
        self._wake = anyio.Event()
        self._due: list[float] = []
        self._task: Task | None = None
        self._serving = False
        self._closing = False
        # After this process, nobody is left to deliver the notices of an in-memory store.
        self._lasting = store.shared

    @property
    def is_used(self) -> bool:
        """True if any webhook is configured."""
        return bool(self._receivers)

    def notices(self, event: str, response: str, principal: str) -> tuple[WebhookNotice, ...]:
        """The notices to store with the outcome of a principal's background response; call `wake` after the commit."""
        found: list[WebhookNotice] = []
        for told in self._webhooks:
            if event in told.events and (told.principals is None or principal in told.principals):
                identifier = "evt_" + secrets.token_hex(16)
                body = event_body(identifier, event, int(time.time()), response).decode()
                found += [WebhookNotice(identifier, told.target(url), body) for url in told.urls]
        return tuple(found)

    async def begin(self) -> None:
        """Start delivering, including notices that other processes have left."""
        self._serving = True
        self.wake()
        try:
            waiting = await with_timeout(self._store.targets, PATIENCE)
        except Unavailable:
            return
        for target in waiting.keys() - {receiver.target for receiver in self._receivers}:
            text = "%d webhooks wait in the store for %s, which this server has no settings for"
            logger.warning(text, waiting[target], target)

    def wake(self) -> None:
        """Check for due notices. Call it in an event loop."""
        if not self._receivers or self._closing:
            return
        self._wake.set()
        if self._task is None or self._task.done:
            self._task = spawn(self._run, "webhooks", lambda: None)

    async def _run(self) -> None:
        """Deliver due notices while the server is serving; outside of serving, while any notice waits."""
        while not self._closing:
            self._wake = anyio.Event()
            await self._take_all(0.0)
            now = anyio.current_time()
            while self._due and self._due[0] <= now:
                heapq.heappop(self._due)
            if not self._serving and not self._due and not any([receiver.running for receiver in self._receivers]):
                return
            # Random, so that processes that were started together do not poll together.
            pause = POLL * random.uniform(0.75, 1.25)  # noqa: S311  (no secret)
            with anyio.move_on_after(min(pause, self._due[0] - now if self._due else math.inf)):
                await self._wake.wait()

    async def _take_all(self, ahead: float) -> None:
        for receiver in self._receivers:
            try:
                await self._take_notices(receiver, ahead)
            except Unavailable as error:
                logger.info("webhooks have to wait: %s", error.code)
                return
            except Exception as error:
                logger.error("webhooks have to wait", exc_info=error)
                return

    async def _take_notices(self, receiver: Receiver, ahead: float) -> None:
        free = MAX_CONCURRENT - len(receiver.running)
        if not free:
            receiver.more = True
            return
        hold = receiver.webhooks.timeout + MARGIN
        taken = await self._store.take_notices(receiver.target, self._token, free, hold, ahead)
        receiver.more = len(taken) == free
        for notice in taken:
            self._start(receiver, notice, last=ahead > 0)

    def _start(self, receiver: Receiver, notice: WebhookNotice, *, last: bool) -> None:
        if notice.number in receiver.running:  # the attempt took so long that its lease expired
            return

        def ended() -> None:
            del receiver.running[notice.number]
            if receiver.more:
                self._wake.set()

        task = spawn(lambda: self._deliver(receiver, notice, last=last), "webhook", ended)
        receiver.running[notice.number] = notice, task

    async def _deliver(self, receiver: Receiver, notice: WebhookNotice, *, last: bool) -> None:
        began = time.monotonic()
        outcome = await receiver.attempt(notice)
        attempt = notice.attempt + 1
        given_up = outcome == str(GONE) or attempt >= receiver.webhooks.attempts or last
        self._report(receiver, notice, outcome, given_up=given_up, seconds=time.monotonic() - began)
        try:
            if outcome == "done":
                await self._store.end_notice(notice.number)
                return
            logger.info("webhook %s: attempt %d failed: %s", receiver.log_text(notice), attempt, outcome)
            if given_up:
                await self._store.end_notice(notice.number)
                logger.warning("webhook %s was not delivered: %s", receiver.log_text(notice), outcome)
                return
            # Random, so that the events of an outage are not all retried at the same moment.
            wait = min(receiver.webhooks.wait * BACKOFF_FACTOR**notice.attempt, MAX_WAIT) * random.uniform(0.5, 1)  # noqa: S311  (no secret)
            await self._store.defer_notice(notice.number, self._token, wait)
            heapq.heappush(self._due, anyio.current_time() + wait)
            self._wake.set()
        except Unavailable as error:  # it is sent again once its lease expires
            logger.info("webhook %s: %s", receiver.log_text(notice), error.code)
        except Exception as error:
            logger.error("webhook %s", receiver.log_text(notice), exc_info=error)

    def _report(
        self, receiver: Receiver, notice: WebhookNotice, outcome: str, *, given_up: bool, seconds: float
    ) -> None:
        if self._sent is None:
            return
        delivered = outcome == "done"
        self._sent(
            WebhookAttempt(
                id=notice.id,
                target=receiver.target,
                attempt=notice.attempt + 1,
                outcome="delivered" if delivered else "failed" if given_up else "retry",
                error="" if delivered else outcome,
                seconds=seconds,
            )
        )

    async def aclose(self, seconds: float) -> None:
        """Deliver due notices, for at most `seconds` seconds. Undelivered ones wait in the store.

        An in-memory store ends with this process: each of its notices gets one last attempt, and is lost if that fails.
        """
        self._closing = True
        self._wake.set()
        with anyio.move_on_after(seconds):
            if self._task is not None:
                await self._task.wait()
            await self._deliver_last()
        for receiver in self._receivers:
            for notice, task in list(receiver.running.values()):
                if self._lasting:
                    logger.info("webhook %s is not delivered yet", receiver.log_text(notice))
                else:
                    logger.warning("webhook %s was not delivered: the server has ended", receiver.log_text(notice))
                task.cancel()

    async def _deliver_last(self) -> None:
        while True:
            await self._take_all(0.0 if self._lasting else math.inf)
            running = [task for receiver in self._receivers for _, task in receiver.running.values()]
            if not running:
                return
            for task in running:
                await task.wait()
