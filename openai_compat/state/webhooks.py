"""Webhooks: outcomes of background responses, posted to other servers and signed as OpenAI signs.

An event is posted until one attempt was answered with 2xx, or all have failed. Events wait in memory only, so those
that are not delivered are lost with the process.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal, TypeAlias, get_args
from urllib.parse import urlsplit

import anyio

from ..agents.setting_types import check_strings
from ..aio.background import Task, spawn
from ..package import __version__
from ..wire.json import dumps

WebhookEvent: TypeAlias = Literal["response.completed", "response.failed", "response.cancelled", "response.incomplete"]
EVENTS: tuple[WebhookEvent, ...] = get_args(WebhookEvent)

Headers: TypeAlias = Sequence[tuple[str, str]]
Post: TypeAlias = Callable[[str, Headers, bytes], Awaitable[int]]
"""Posts a body to a URL and returns the status of the answer, whose body is not read and whose redirects are not
followed. Raises any exception if there is none."""

AT_ONCE = 8
"""Concurrent attempts to one URL."""
LONGER = 4.0
"""Factor between two waits."""
LONGEST = 600.0
"""Longest wait in seconds."""
GONE = 410
"""The status with which a receiver stops the attempts."""

logger = logging.getLogger("openai_compat")


class Webhooks:
    """Posts events to URLs.

    Args:
        urls: one, or several, which all get every event.
        secret: what events are signed with, as `whsec_` and base64, or any text; several while it is being changed.
        post: sends them: `openai_compat_adapters.webhooks.http_post`, or a function of yours.
        events: the types of events that are sent.
        principals: the principals whose responses are told, by id; None for all.
        attempts: how often an event is sent until it is answered with 2xx; any other answer is a failure.
        wait: seconds before the second attempt; each further wait is four times as long, up to 10 minutes.
        timeout: seconds for an attempt.
        pending: events that may wait for their delivery; further ones are dropped, which the log says.

    Raises ValueError for settings that make no sense.
    """

    def __init__(
        self,
        urls: str | Iterable[str],
        *,
        secret: str | Iterable[str],
        post: Post,
        events: Iterable[WebhookEvent] = EVENTS,
        principals: Collection[str] | None = None,
        attempts: int = 7,
        wait: float = 1.0,
        timeout: float = 10.0,
        pending: int = 1000,
    ) -> None:
        self.urls = tuple([_checked(url) for url in _several(urls)])
        self.keys = tuple([_key(text) for text in _several(secret)])
        self.events = frozenset(events)
        if not self.urls or not self.keys or not self.events <= frozenset(EVENTS):
            raise ValueError(f"webhooks need a URL, a secret, and events out of {', '.join(EVENTS)}")
        if attempts < 1 or pending < 1:
            raise ValueError("webhooks need an attempt, and room for an event that is pending")
        self.post = post
        self.principals = None if principals is None else check_strings("principals", principals)
        self.attempts = attempts
        self.wait = wait
        self.timeout = timeout
        self.pending = pending


class _Sender:
    """Posts one server's events as `Webhooks` say."""

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks
        self._free = {url: anyio.Semaphore(AT_ONCE) for url in webhooks.urls}
        self._deliveries: dict[_Delivery, Task] = {}

    def publish(self, event: str, response: str, principal: str) -> None:
        """Send an event in the background. Never raises. Call it in an event loop."""
        told = self._webhooks
        if event not in told.events or (told.principals is not None and principal not in told.principals):
            return
        try:
            identifier = "evt_" + secrets.token_hex(16)
            body = event_body(identifier, event, int(time.time()), response)
            for url in told.urls:
                self._begin(_Delivery(url, identifier, body))
        except Exception as error:
            logger.error("a webhook could not be sent", exc_info=error)

    def _begin(self, delivery: _Delivery) -> None:
        if len(self._deliveries) >= self._webhooks.pending:
            logger.warning("webhook %s is dropped: too many wait for their delivery", delivery)
            return
        task = spawn(lambda: self._deliver(delivery), "webhook", lambda: self._deliveries.pop(delivery))
        self._deliveries[delivery] = task

    async def _deliver(self, delivery: _Delivery) -> None:
        wait, outcome = self._webhooks.wait, ""
        for attempt in range(1, self._webhooks.attempts + 1):
            last = delivery.closing.is_set()  # one that began before the shutdown is followed by a last one
            outcome = await self._attempt(delivery)
            if outcome == "done":
                return
            logger.info("webhook %s: attempt %d failed: %s", delivery, attempt, outcome)
            if outcome == str(GONE) or attempt == self._webhooks.attempts or last:
                break
            # Random, so that the events of an outage do not all come back at the same moment.
            with anyio.move_on_after(min(wait, LONGEST) * random.uniform(0.5, 1)):  # noqa: S311  (no secret)
                await delivery.closing.wait()
            wait *= LONGER
        logger.warning("webhook %s was not delivered: %s", delivery, outcome)

    async def _attempt(self, delivery: _Delivery) -> str:
        """Send once. Returns "done", or the failure in a word."""
        async with self._free[delivery.url]:
            headers = signed_headers(self._webhooks.keys, delivery.id, int(time.time()), delivery.body)
            try:
                with anyio.move_on_after(self._webhooks.timeout):
                    status = await self._webhooks.post(delivery.url, headers, delivery.body)
                    return "done" if 200 <= status < 300 else str(status)
            except Exception as error:
                return type(error).__name__  # its text may have the URL in it
        return "timeout"

    async def aclose(self, seconds: float) -> None:
        """Make a last attempt at once for all events, for at most `seconds`; then drop them."""
        for delivery in self._deliveries:
            delivery.closing.set()
        with anyio.move_on_after(seconds):
            for task in list(self._deliveries.values()):
                await task.wait()
        for delivery, task in list(self._deliveries.items()):
            logger.warning("webhook %s was not delivered: the server has ended", delivery)
            task.cancel()


class Publisher:
    """Publishes events to all webhooks of a server."""

    def __init__(self, webhooks: Webhooks | Iterable[Webhooks] = ()) -> None:
        several = [webhooks] if isinstance(webhooks, Webhooks) else webhooks
        self._senders = [_Sender(one) for one in several]

    def publish(self, event: str, response: str, principal: str) -> None:
        """Send the outcome of a principal's response in the background. Never raises."""
        for sender in self._senders:
            sender.publish(event, response, principal)

    async def aclose(self, seconds: float) -> None:
        """Make a last attempt at once for all events, for at most `seconds`; then drop them."""
        async with anyio.create_task_group() as group:
            for sender in self._senders:
                group.start_soon(sender.aclose, seconds)


@dataclass(eq=False, slots=True)
class _Delivery:
    """One event on its way to one URL."""

    url: str
    id: str
    body: bytes
    closing: anyio.Event = field(default_factory=anyio.Event)

    def __str__(self) -> str:
        """For the log: without the URL's password and query, which may be secret."""
        parts = urlsplit(self.url)
        return f"{self.id} to {parts.scheme}://{parts.hostname}{parts.path}"


def event_body(identifier: str, event: str, created: int, response: str) -> bytes:
    """An event's body in OpenAI's format."""
    body = {"id": identifier, "object": "event", "created_at": created, "type": event, "data": {"id": response}}
    return dumps(body)


def signed_headers(keys: Iterable[bytes], identifier: str, timestamp: int, body: bytes) -> Headers:
    """The headers of an attempt (Standard Webhooks), with its own time: receivers refuse old ones."""
    content = f"{identifier}.{timestamp}.".encode() + body
    signatures = [base64.b64encode(hmac.digest(key, content, sha256)).decode() for key in keys]
    return [
        ("Content-Type", "application/json"),
        ("User-Agent", f"openai-compat/{__version__}"),
        ("Webhook-Id", identifier),
        ("Webhook-Timestamp", str(timestamp)),
        # One for each secret: while it is being changed, the receiver knows one of them.
        ("Webhook-Signature", " ".join([f"v1,{signature}" for signature in signatures])),
    ]


def _several(given: str | Iterable[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a webhook's URL is of the form https://host/path")
    return url


def _key(secret: str) -> bytes:
    """The bytes of a secret. It must not be in the error's text."""
    if not secret.startswith("whsec_"):
        key = secret.encode()
    else:
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            key = b""
    if not key:
        raise ValueError("a webhook's secret is whsec_ and base64, or any other text that is not empty")
    return key
