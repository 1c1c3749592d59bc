"""Webhooks: the receivers of background responses' outcomes, and how an event is written and signed, as OpenAI does it.

`state.outbox` delivers them.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from hashlib import sha256
from typing import Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from ..agents.setting_types import check_strings
from ..package import __version__
from ..wire.json import dumps

WebhookEvent: TypeAlias = Literal["response.completed", "response.failed", "response.cancelled", "response.incomplete"]
EVENTS: tuple[WebhookEvent, ...] = get_args(WebhookEvent)

Headers: TypeAlias = Sequence[tuple[str, str]]
Post: TypeAlias = Callable[[str, Headers, bytes], Awaitable[int]]
"""Posts a body to a URL and returns the status of the answer. Reads no answer body and follows no redirect. May raise any
exception if there is no answer."""


class Webhooks:
    """Posts events to URLs.

    Args:
        urls: one URL, or several, which all get every event.
        secret: signs the events, as `whsec_` and base64, or any text; several during a rotation.
        post: sends them: `openai_compat_adapters.webhooks.http_post`, or a function of yours.
        events: the types of events that are sent.
        principals: the ids of principals whose responses are reported; None for all.
        attempts: how often an event is sent until it is answered with 2xx; any other answer is a failure.
        wait: seconds before the second attempt; each further wait is four times as long, up to 10 minutes.
        timeout: timeout of an attempt, in seconds.
        name: distinguishes webhooks with the same URL. Notices in the store belong to a name and a URL: after either
            changes, nobody delivers them.

    Raises ValueError for invalid settings.
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
        name: str = "",
    ) -> None:
        self.urls = tuple([_check_url(url) for url in _as_list(urls)])
        self.keys = tuple([_parse_secret(text) for text in _as_list(secret)])
        self.events = frozenset(events)
        if not self.urls or not self.keys or not self.events <= frozenset(EVENTS):
            raise ValueError(f"webhooks need a URL, a secret, and events out of {', '.join(EVENTS)}")
        if attempts < 1:
            raise ValueError("webhooks need an attempt")
        self.post = post
        self.principals = None if principals is None else check_strings("principals", principals)
        self.attempts = attempts
        self.wait = wait
        self.timeout = timeout
        self.name = name

    def target(self, url: str) -> str:
        """The name under which events for one of the URLs are stored. It contains neither secrets nor the URL's query."""
        digest = sha256(f"{self.name}\n{url}".encode()).hexdigest()
        return f"{self.name}@{urlsplit(url).hostname}#{digest[:16]}"


def event_body(identifier: str, event: str, created: int, response: str) -> bytes:
    """An event's body in OpenAI's format."""
    body = {"id": identifier, "object": "event", "created_at": created, "type": event, "data": {"id": response}}
    return dumps(body)


def signed_headers(keys: Iterable[bytes], identifier: str, timestamp: int, body: bytes) -> Headers:
    """The headers of an attempt (Standard Webhooks), with a new timestamp: receivers refuse old ones."""
    content = f"{identifier}.{timestamp}.".encode() + body
    signatures = [base64.b64encode(hmac.digest(key, content, sha256)).decode() for key in keys]
    return [
        ("Content-Type", "application/json"),
        ("User-Agent", f"openai-compat/{__version__}"),
        ("Webhook-Id", identifier),
        ("Webhook-Timestamp", str(timestamp)),
        # One for each secret: during a rotation, the receiver knows only one of them.
        ("Webhook-Signature", " ".join([f"v1,{signature}" for signature in signatures])),
    ]


def _as_list(given: str | Iterable[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _check_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a webhook's URL is of the form https://host/path")
    return url


def _parse_secret(secret: str) -> bytes:
    """The bytes of a secret. The error's text must not contain the secret."""
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
