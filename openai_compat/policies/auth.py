"""API keys in requests. The source is read for every request, so that keys can be rotated without a restart."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import replace
from operator import is_
from typing import cast
from urllib.parse import parse_qsl, urlencode

from ..agent_request import Principal
from ..errors import Unauthorized, Unavailable
from ..http import HttpRequest
from .keys import Keys, KeySource, KeyTable, check_keys

# Scheme names are case-insensitive (RFC 9110, 11.1).
_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE | re.ASCII)  # ASCII: \xa0 and \x85 are UTF-8 bytes, not spaces
AZURE_HEADER = b"api-key"
"""The header in which Azure clients send the key."""

# The query is parsed before authentication, so the work is bounded.
MOST_FIELDS = 100
"""Maximum number of query fields that are searched for a key."""

_TOKEN = re.compile(r"\S+", re.ASCII)


class ApiKeys:
    """Admits requests that carry one of the keys as `Authorization: Bearer KEY`, or as Azure's `api-key: KEY`.

    The same as `Server(keys=…)`, as an authenticator that others can build on, for instance `on_behalf`.

    `keys` is a key, several, a mapping from keys to principals, or a source: a function, plain or async, that is called
    for every request and returns one of these. A principal may be given by its id, a key by its digest (`sha256:HEX`).
    A source that returns no key disables the server (503 `chat_endpoint_disabled`); it never opens the server. A key
    without a principal gets its own, named after a hash of the key. Raises ValueError for a key that contains spaces.
    """

    def __init__(self, keys: Keys | KeySource) -> None:
        self._source: KeySource = keys if callable(keys) else _fixed_source(keys)
        self._seen: list[str] = []
        self._whose: Sequence[object] = ()
        self._table = KeyTable(())

    def __call__(self, request: HttpRequest) -> Principal | Awaitable[Principal | None] | None:
        """Return the owner of the request's key, or None. Raises Unavailable if no key is configured."""
        found = self._source()
        if isinstance(found, KeyTable | str | list | Mapping) or not inspect.isawaitable(found):
            return self._find(cast("Keys", found), request)
        return self._find_later(found, request)

    async def principal(self, request: HttpRequest, request_id: str = "") -> Principal:
        """Return the principal of `request`. Raises Unauthorized, or Unavailable if no key is configured."""
        found = self(request)
        if found is not None and not isinstance(found, Principal):
            found = await found
        if found is None:
            raise unknown_caller()
        return found

    async def _find_later(self, keys: Awaitable[Keys], request: HttpRequest) -> Principal | None:
        return self._find(await keys, request)

    def _find(self, keys: Keys, request: HttpRequest) -> Principal | None:
        table = keys if isinstance(keys, KeyTable) else self._key_table(keys)
        # Fail closed: a source that has lost its keys must not open the server.
        if not table:
            text = "This server is disabled: no API key is configured."
            raise Unavailable(text, code="chat_endpoint_disabled", should_retry=False)
        return table.find(bearer_token(request))

    def _key_table(self, keys: Keys) -> KeyTable:
        """Return the key table for a source's result, which is usually unchanged, but may have been changed in place."""
        kept, seen = keys, list[str]()
        whose: Sequence[object] = ()
        if isinstance(keys, Mapping):
            named = cast("Mapping[str, Principal | str | None]", keys)
            kept, seen, whose = named, list(named), list(named.values())
        elif isinstance(keys, Iterable) and not isinstance(keys, str):
            kept = seen = list(keys)
        elif keys is not None:
            seen = [cast("str", keys)]
        # Comparing costs a tenth of computing the digests.
        if seen != self._seen or not _same(whose, self._whose):
            self._table = KeyTable(kept)
            self._seen, self._whose = seen, whose
        return self._table


def _same(principals: Sequence[object], former: Sequence[object]) -> bool:
    """True if all principals are the same, including their claims, which `==` ignores."""
    if len(principals) != len(former):
        return False
    if all(map(is_, principals, former)):
        return True
    return principals == former and not any([isinstance(one, Principal) for one in principals])


def _fixed_source(keys: Keys) -> KeySource:
    is_iterator = isinstance(keys, Iterable) and not isinstance(keys, str | Mapping)
    kept = cast("Keys", list(cast("Iterable[str]", keys)) if is_iterator else keys)
    check_keys(kept)
    table = KeyTable(kept)
    return lambda: table


def unknown_caller() -> Unauthorized:
    """Create the error for a missing or an unknown key: the same for both."""
    return Unauthorized("Missing or invalid API key. Send it as 'Authorization: Bearer KEY'.")


def with_key_of_query(request: HttpRequest) -> HttpRequest:
    """Move the key from the query (`api_key`) to a header, since browsers cannot set headers of a WebSocket.

    The key is removed from the query, and ignored if a header already carries one.
    """
    try:
        fields = parse_qsl(request.query, keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        return request
    keys = [value for name, value in fields if name == "api_key"]
    rest = urlencode([(name, value) for name, value in fields if name != "api_key"])
    # A header wins. Two keys in the query are ambiguous, so neither is used.
    if len(keys) != 1 or has_key(request):
        return replace(request, query=rest)
    header = (b"authorization", b"Bearer " + keys[0].encode("utf-8", "replace"))
    return replace(request, query=rest, headers=[*request.headers, header])


def with_key_of_headers(request: HttpRequest, names: Iterable[str]) -> HttpRequest:
    """Copy the keys of further headers to `api-key`. Headers with different keys are treated as no key."""
    found = {value for name in names for value in request.header_values(name.encode())}
    # Clients that do not know which header is read send the same key in several: that is one key.
    new = sorted(found - set(request.header_values(AZURE_HEADER)))
    return replace(request, headers=[*request.headers, *[(AZURE_HEADER, value.encode("latin-1")) for value in new]])


def has_key(request: HttpRequest) -> bool:
    """True if a header carries a key, right or wrong."""
    return request.header(b"authorization") is not None or request.header(AZURE_HEADER) is not None


def bearer_token(request: HttpRequest) -> bytes:
    """Return the key or token as sent; empty for any other scheme, and for headers that contradict each other."""
    bearers, plain = request.header_values(b"authorization"), request.header_values(AZURE_HEADER)
    if len(bearers) == 1 and not plain:  # the common case
        found = _BEARER.fullmatch(bearers[0])
        return b"" if found is None else found[1].encode("latin-1")
    sent = {match[1] if (match := _BEARER.fullmatch(value)) else "" for value in bearers}
    sent |= {value if _TOKEN.fullmatch(value) else "" for value in plain}
    return sent.pop().encode("latin-1") if len(sent) == 1 and max(len(bearers), len(plain)) == 1 else b""
