"""Who may call: bearer keys, read anew for every request, so that they can be rotated without a restart."""

from __future__ import annotations

import hmac
import inspect
import os
import re
from collections.abc import Awaitable, Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

from ..backend import ANONYMOUS, Principal
from ..errors import Unauthorized, Unavailable
from ..http import HttpRequest

Keys: TypeAlias = str | Iterable[str] | None
KeySource: TypeAlias = Callable[[], Keys | Awaitable[Keys]]

_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE | re.ASCII)  # ASCII: \xa0 and \x85 are bytes of UTF-8, no spaces


def key_from_env(name: str) -> KeySource:
    """Keys from an environment variable, separated by commas. Unset or empty means disabled, never open."""
    return lambda: [key.strip() for key in os.environ.get(name, "").split(",")]


def key_from_file(path: str | Path) -> KeySource:
    """Keys from a file, one to a line; empty lines and lines that begin with # are skipped."""

    def read() -> list[str]:
        try:
            lines = Path(path).read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [line.strip() for line in lines if not line.lstrip().startswith("#")]

    return read


def _fixed(keys: str | Iterable[str]) -> KeySource:
    kept = [keys] if isinstance(keys, str) else list(keys)
    return lambda: kept


class BearerAuth:
    """Lets requests in that carry one of the keys as `Authorization: Bearer KEY`.

    `keys` is a key, several, or a source: a function, plain or async, that is called for every request and returns
    them. A source that yields no key disables the server (503 `chat_endpoint_disabled`); it never opens it.
    """

    def __init__(self, keys: str | Iterable[str] | KeySource) -> None:
        self._source: KeySource = keys if callable(keys) else _fixed(keys)

    async def principal(self, request: HttpRequest) -> Principal:
        """Who sends `request`. Raises Unauthorized, or Unavailable where there is no key at all."""
        keys = await self._keys()
        if not keys:
            text = "This server is disabled: no API key is configured."
            raise Unavailable(text, code="chat_endpoint_disabled", should_retry=False)
        sent = _token(request)
        matches = [hmac.compare_digest(sent, key) for key in keys]  # every key, always: no early exit to time
        if not any(matches):
            raise Unauthorized("Missing or invalid API key. Send it as 'Authorization: Bearer KEY'.")
        return Principal("key-" + sha256(sent).hexdigest()[:12])

    async def _keys(self) -> list[bytes]:
        found = self._source()
        if inspect.isawaitable(found):
            found = await found
        keys = [found] if isinstance(found, str) else found or ()
        return [key.encode() for key in keys if key]


class OpenAccess:
    """Lets everybody in. Meant for loopback, where the Host check keeps other sites' pages out."""

    async def principal(self, request: HttpRequest) -> Principal:
        """The anonymous principal, for any request."""
        return ANONYMOUS


Auth: TypeAlias = BearerAuth | OpenAccess


def _token(request: HttpRequest) -> bytes:
    """The token as sent, or nothing: two headers, or any other scheme, are no token."""
    values = request.header_values(b"authorization")
    match = _BEARER.fullmatch(values[0]) if len(values) == 1 else None
    return match[1].encode("latin-1") if match else b""
