"""Who may call: bearer keys, read anew for every request, so that they can be rotated without a restart."""

from __future__ import annotations

import hmac
import inspect
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias, cast
from urllib.parse import parse_qsl, urlencode

from ..agent_request import ANONYMOUS, Principal
from ..errors import Unauthorized, Unavailable
from ..http import HttpRequest

Keys: TypeAlias = str | Iterable[str] | Mapping[str, Principal | str | None] | None
KeySource: TypeAlias = Callable[[], Keys | Awaitable[Keys]]

# The name of a scheme has no case (RFC 9110, 11.1).
_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE | re.ASCII)  # ASCII: \xa0 and \x85 are bytes of UTF-8, no spaces
AZURE = b"api-key"
"""The header in which Azure's clients send the key."""

MOST_FIELDS = 100
"""Fields of a query that is looked through for a key."""

_TOKEN = re.compile(r"\S+", re.ASCII)


def key_from_env(name: str) -> KeySource:
    """Keys from an environment variable, separated by commas. Unset or empty means disabled, never open.

    A name after a key, behind a space, is the id of its principal: "sk-1 ann, sk-2 bob".
    """
    return lambda: _with_names(os.environ.get(name, "").split(","))


def key_from_file(path: str | Path) -> KeySource:
    """Keys from a file, one to a line; empty lines and lines that begin with # are skipped.

    A name after a key, behind a space, is the id of its principal.
    """

    def read() -> Keys:
        try:
            lines = Path(path).read_text("utf-8").splitlines()
        except FileNotFoundError:
            # No key at all, which disables the server: a file that is gone must not open it.
            return []
        return _with_names([line for line in lines if not line.lstrip().startswith("#")])

    return read


def _with_names(entries: Iterable[str]) -> Keys:
    """The key of each entry, with the name that stands behind it."""
    named: dict[str, str | None] = {}
    for entry in entries:
        key, _, name = entry.strip().partition(" ")
        named[key] = name.strip() or None
    return named


def check_keys(keys: Keys) -> None:
    """Raises ValueError for keys that no client could send, since they have spaces in them, TypeError for others."""
    for key, _ in known_keys(keys):
        if _TOKEN.fullmatch(key.decode()) is None:
            raise ValueError("an API key cannot have spaces in it")


def known_keys(keys: Keys) -> list[tuple[bytes, Principal | None]]:
    """Keys as bytes, each with its principal, if it has one of its own; empty ones are left out.

    Raises TypeError, without a key in it, for what is no key and no principal.
    """
    if isinstance(keys, Mapping):
        pairs = [*cast("Mapping[str, Principal | str | None]", keys).items()]
        found = [(key, Principal(who) if isinstance(who, str) else who) for key, who in pairs]
    elif keys is None or isinstance(keys, str):
        found = [(keys or "", None)]
    elif isinstance(cast("Any", keys), Iterable):
        found = [(key, None) for key in keys]
    else:
        found = [(cast("str", keys), None)]
    for key, principal in found:
        if not isinstance(cast("Any", key), str) or not isinstance(cast("Any", principal), Principal | None):
            raise TypeError("keys are strings, or a mapping from strings to principals or their ids")
        if principal is not None and not principal.id:
            raise TypeError("the id of a key's principal is not empty")
    # An empty key would be equal to what a request without any brings.
    return [(key.encode(), principal) for key, principal in found if key]


def _fixed(keys: Keys) -> KeySource:
    is_iterator = isinstance(keys, Iterable) and not isinstance(keys, str | Mapping)
    kept = cast("Keys", list(cast("Iterable[str]", keys)) if is_iterator else keys)
    check_keys(kept)
    return lambda: kept


class BearerAuth:
    """Lets requests in that carry one of the keys as `Authorization: Bearer KEY`, or `api-key: KEY` as Azure has it.

    `keys` is a key, several, a mapping from keys to principals, or a source: a function, plain or async, that is
    called for every request and returns one of these; a principal may be given by its id. A source that yields no key disables the server (503
    `chat_endpoint_disabled`); it never opens it. A key without a principal of its own is one by itself, named after a
    hash of the key. Raises ValueError for a key with spaces in it.
    """

    def __init__(self, keys: Keys | KeySource) -> None:
        self._source: KeySource = keys if callable(keys) else _fixed(keys)

    async def principal(self, request: HttpRequest) -> Principal:
        """Who sends `request`. Raises Unauthorized, or Unavailable where there is no key at all."""
        known = await self._known()
        # Fail closed: a source that lost its keys must not open the server.
        if not known:
            text = "This server is disabled: no API key is configured."
            raise Unavailable(text, code="chat_endpoint_disabled", should_retry=False)
        sent = _token(request)
        found: Principal | None = None
        for key, principal in known:  # every key, always: no early exit to time
            if hmac.compare_digest(sent, key):
                # Twelve digits of a hash: the name is logged, and must not tell the key.
                found = principal or Principal("key-" + sha256(key).hexdigest()[:12])
        if found is None:
            raise Unauthorized("Missing or invalid API key. Send it as 'Authorization: Bearer KEY'.")
        return found

    async def _known(self) -> list[tuple[bytes, Principal | None]]:
        found = self._source()
        if inspect.isawaitable(found):
            found = await found
        return known_keys(found)


class OpenAccess:
    """Lets everybody in. Meant for loopback, where the Host check keeps other sites' pages out."""

    async def principal(self, request: HttpRequest) -> Principal:
        """The anonymous principal, for any request."""
        return ANONYMOUS


Auth: TypeAlias = BearerAuth | OpenAccess


def with_key_of_query(request: HttpRequest) -> HttpRequest:
    """The request with the key in its query (`api_key`), if it has no other: browsers cannot set a WebSocket's headers.

    The key is taken out of the query.
    """
    try:
        fields = parse_qsl(request.query, keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        return request
    keys = [value for name, value in fields if name == "api_key"]
    rest = urlencode([(name, value) for name, value in fields if name != "api_key"])
    # A header wins, and of two keys none counts: which one was meant is anybody's guess.
    if len(keys) != 1 or has_key(request):
        return replace(request, query=rest)
    header = (b"authorization", b"Bearer " + keys[0].encode("utf-8", "replace"))
    return replace(request, query=rest, headers=[*request.headers, header])


def with_key_of_headers(request: HttpRequest, names: Iterable[str]) -> HttpRequest:
    """The request with the keys of further headers in `api-key`. Headers with different keys are none at all."""
    found = {value for name in names for value in request.header_values(name.encode())}
    # Clients that do not know which header is read send their key in several: the same one twice is one key.
    new = sorted(found - set(request.header_values(AZURE)))
    return replace(request, headers=[*request.headers, *[(AZURE, value.encode("latin-1")) for value in new]])


def has_key(request: HttpRequest) -> bool:
    """True if a header brings a key, right or wrong."""
    return request.header(b"authorization") is not None or request.header(AZURE) is not None


def _token(request: HttpRequest) -> bytes:
    """The token as sent, or nothing: any other scheme is no token, nor are two headers that do not say the same."""
    bearers, plain = request.header_values(b"authorization"), request.header_values(AZURE)
    sent = {match[1] if (match := _BEARER.fullmatch(value)) else "" for value in bearers}
    sent |= {value if _TOKEN.fullmatch(value) else "" for value in plain}
    # As bytes: `hmac.compare_digest` raises TypeError for text beyond ASCII, which would be a 500.
    return sent.pop().encode("latin-1") if len(sent) == 1 and max(len(bearers), len(plain)) == 1 else b""
