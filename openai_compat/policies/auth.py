"""API keys in requests: read anew for every request, so that they can be rotated without a restart."""

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

# The name of a scheme has no case (RFC 9110, 11.1).
_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE | re.ASCII)  # ASCII: \xa0 and \x85 are bytes of UTF-8, no spaces
AZURE = b"api-key"
"""The header in which Azure's clients send the key."""

# The query of a request is read before anybody is known, so it is not read for long.
MOST_FIELDS = 100
"""Fields of a query that is looked through for a key."""

_TOKEN = re.compile(r"\S+", re.ASCII)


class ApiKeys:
    """Lets requests in that carry one of the keys as `Authorization: Bearer KEY`, or `api-key: KEY` as Azure has it.

    `Server(keys=…)` is this. It is an authenticator too, for what goes on from there, such as `on_behalf`.

    `keys` is a key, several, a mapping from keys to principals, or a source: a function, plain or async, that is
    called for every request and returns one of these; a principal may be given by its id, a key by its digest
    (`sha256:HEX`). A source that yields no key disables the server (503 `chat_endpoint_disabled`); it never opens it.
    A key without a principal of its own is one by itself, named after a hash of the key. Raises ValueError for a key
    with spaces in it.
    """

    def __init__(self, keys: Keys | KeySource) -> None:
        self._source: KeySource = keys if callable(keys) else _fixed(keys)
        self._seen: list[str] = []
        self._whose: Sequence[object] = ()
        self._table = KeyTable(())

    def __call__(self, request: HttpRequest) -> Principal | Awaitable[Principal | None] | None:
        """Whose key `request` carries, or None. Raises Unavailable where there is no key at all."""
        found = self._source()
        if isinstance(found, KeyTable | str | list | Mapping) or not inspect.isawaitable(found):
            return self._find(cast("Keys", found), request)
        return self._find_later(found, request)

    async def principal(self, request: HttpRequest, request_id: str = "") -> Principal:
        """Who sends `request`. Raises Unauthorized, or Unavailable where there is no key at all."""
        found = self(request)
        if found is not None and not isinstance(found, Principal):
            found = await found
        if found is None:
            raise unknown_caller()
        return found

    async def _find_later(self, keys: Awaitable[Keys], request: HttpRequest) -> Principal | None:
        return self._find(await keys, request)

    def _find(self, keys: Keys, request: HttpRequest) -> Principal | None:
        table = keys if isinstance(keys, KeyTable) else self._tabled(keys)
        # Fail closed: a source that lost its keys must not open the server.
        if not table:
            text = "This server is disabled: no API key is configured."
            raise Unavailable(text, code="chat_endpoint_disabled", should_retry=False)
        return table.find(bearer_token(request))

    def _tabled(self, keys: Keys) -> KeyTable:
        """The table of what a source has returned: mostly what it has returned before, and perhaps changed since."""
        kept, seen = keys, list[str]()
        whose: Sequence[object] = ()
        if isinstance(keys, Mapping):
            named = cast("Mapping[str, Principal | str | None]", keys)
            kept, seen, whose = named, list(named), list(named.values())
        elif isinstance(keys, Iterable) and not isinstance(keys, str):
            kept = seen = list(keys)
        elif keys is not None:
            seen = [cast("str", keys)]
        # A comparison costs a tenth of what it costs to make the digests.
        if seen != self._seen or not _same(whose, self._whose):
            self._table = KeyTable(kept)
            self._seen, self._whose = seen, whose
        return self._table


def _same(principals: Sequence[object], former: Sequence[object]) -> bool:
    """Whether they are the same, in what is claimed of them too: `==` does not look at that."""
    if len(principals) != len(former):
        return False
    if all(map(is_, principals, former)):
        return True
    return principals == former and not any([isinstance(one, Principal) for one in principals])


def _fixed(keys: Keys) -> KeySource:
    is_iterator = isinstance(keys, Iterable) and not isinstance(keys, str | Mapping)
    kept = cast("Keys", list(cast("Iterable[str]", keys)) if is_iterator else keys)
    check_keys(kept)
    table = KeyTable(kept)
    return lambda: table


def unknown_caller() -> Unauthorized:
    """The error for a request without a key, or with one that nobody knows: the same for both."""
    return Unauthorized("Missing or invalid API key. Send it as 'Authorization: Bearer KEY'.")


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


def bearer_token(request: HttpRequest) -> bytes:
    """The key or token as sent, or nothing: any other scheme is none, nor are two headers that do not say the same."""
    bearers, plain = request.header_values(b"authorization"), request.header_values(AZURE)
    if len(bearers) == 1 and not plain:  # as most send it
        found = _BEARER.fullmatch(bearers[0])
        return b"" if found is None else found[1].encode("latin-1")
    sent = {match[1] if (match := _BEARER.fullmatch(value)) else "" for value in bearers}
    sent |= {value if _TOKEN.fullmatch(value) else "" for value in plain}
    return sent.pop().encode("latin-1") if len(sent) == 1 and max(len(bearers), len(plain)) == 1 else b""
