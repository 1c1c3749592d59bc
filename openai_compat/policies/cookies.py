"""API keys in cookies, for pages of the server's own site; pages of other sites cannot use them (CSRF)."""

from __future__ import annotations

from dataclasses import replace

from ..http import HttpRequest
from .auth import has_key
from .cors import SAFE_METHODS, Cors, check_page


class CookieKey:
    """Reads the API key from the cookie called `name`, if no header carries a key.

    A browser sends cookies whatever page made the request. So a request that changes state must come from a page of this
    server, or of an origin in `cors`; programs other than browsers send no Origin.

    Raises ValueError for `cors` with a `regex`, since it is unknown whose pages that allows.
    """

    def __init__(self, name: str, cors: Cors | None) -> None:
        if cors is not None and not cors.exact:
            text = "ChatRest.cookie does not go with Cors(regex=…): name each origin whose pages may use the cookie"
            raise ValueError(text)
        self._name = name
        self._cors = cors

    def as_header(self, request: HttpRequest) -> HttpRequest:
        """Return the request with the cookie's key as a header. Raises Forbidden (403 `origin_not_allowed`)."""
        key = None if has_key(request) else self._key(request)
        if key is None:
            return request
        if request.method not in SAFE_METHODS:
            check_page(request, self._cors)
        return replace(request, headers=[*request.headers, (b"authorization", b"Bearer " + key.encode("latin-1"))])

    def _key(self, request: HttpRequest) -> str | None:
        for value in request.header_values(b"cookie"):
            for cookie in value.split(";"):
                name, _, key = cookie.strip().partition("=")
                key = key.removeprefix('"').removesuffix('"')  # keys have no characters that need escaping in quotes
                if name == self._name and key:
                    return key
        return None
