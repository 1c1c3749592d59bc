"""CORS: the web pages that may call the server from a browser. Off unless origins are given."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..agents.setting_types import check_strings
from ..errors import Forbidden
from ..http import HttpRequest
from .budgets import BudgetsOf
from .conversations import Conversations
from .rates import RATE_HEADERS, TOKEN_HEADERS, RatesOf

METHODS = "GET, POST, DELETE, OPTIONS"
# Browsers expose few other headers to pages (Fetch standard), and SDKs in pages need these.
EXPOSED_HEADERS = "x-request-id, retry-after, x-should-retry, openai-processing-ms, x-ignored-parameters"
MAX_AGE = "86400"
"""Seconds that a browser may cache a preflight answer."""

MAX_ORIGIN = 300
"""Maximum length of an origin that is matched against the regex, in characters; a host name has up to 253."""

SAFE_METHODS = frozenset(["GET", "HEAD", "OPTIONS"])
"""Methods that change no state."""

OWN_SITE = frozenset(["same-origin", "none"])

_ORIGIN = re.compile(r"https?://[^/?#@\s]+")


class Cors:
    """Allows exact `origins` (`https://app.example`), and origins that `regex` matches in full.

    Raises ValueError for an origin that no browser would send.
    """

    def __init__(self, origins: Iterable[str] = (), regex: str | None = None) -> None:
        self._origins = frozenset(check_strings("origins", origins))
        self._regex = re.compile(regex) if regex is not None else None
        for origin in self._origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"not an origin (scheme, host and port, without a path): {origin!r}")

    def allows(self, origin: str) -> bool:
        """True if pages of `origin` may call the server."""
        if origin in self._origins:
            return True
        # The pattern is the operator's, the text a stranger's: the maximum length bounds the cost of a match.
        return len(origin) <= MAX_ORIGIN and self._regex is not None and self._regex.fullmatch(origin) is not None

    @property
    def exact(self) -> bool:
        """True if every origin is named, so that their pages can be trusted with cookies."""
        return self._regex is None

    def headers(
        self, request: HttpRequest, exposed: Iterable[str] = (), *, cookies: bool = False
    ) -> list[tuple[str, str]]:
        """Return the CORS headers of a response, including errors; no allow headers for an origin that is not allowed.

        Pages may read the headers in EXPOSED_HEADERS and `exposed`; with `cookies`, pages may send cookies.
        """
        origin = request.header(b"origin")
        if origin is None or not self.allows(origin):
            # Without Vary, a cache could serve this response to an allowed page.
            return [("Vary", "Origin")]
        return [
            ("Access-Control-Allow-Origin", origin),
            *([("Access-Control-Allow-Credentials", "true")] if cookies else []),
            ("Access-Control-Expose-Headers", ", ".join([EXPOSED_HEADERS, *exposed])),
            ("Vary", "Origin"),
        ]

    def preflight_headers(self, request: HttpRequest) -> list[tuple[str, str]]:
        """Extra headers of a preflight answer; any requested header is allowed."""
        # A fixed list would miss headers: OpenAI's SDKs alone send a dozen `x-stainless-…`, and more with each release.
        wanted = request.header(b"access-control-request-headers") or "authorization, content-type"
        return [
            ("Access-Control-Allow-Methods", METHODS),
            ("Access-Control-Allow-Headers", wanted),
            ("Access-Control-Max-Age", MAX_AGE),
        ]


def is_preflight(request: HttpRequest) -> bool:
    """True for a CORS preflight request (Fetch standard)."""
    return (
        request.method == "OPTIONS"
        and request.header(b"origin") is not None
        and request.header(b"access-control-request-method") is not None
    )


def check_origin(request: HttpRequest, cors: Cors | None) -> None:
    """Raise Forbidden (403 `origin_not_allowed`) for a WebSocket from a page of another site that `cors` does not allow.

    Browsers open a WebSocket to any host without a preflight. Programs other than browsers send no Origin.
    """
    origin = request.header(b"origin")
    if origin is None or (cors is not None and cors.allows(origin)):
        return
    # Pages of this server need no `cors`: their origin is the called host.
    if origin.partition("://")[2] != request.header(b"host"):
        text = "Pages from this Origin may not connect. A server allows those that its 'cors' names."
        raise Forbidden(text, code="origin_not_allowed")


def check_page(request: HttpRequest, cors: Cors | None) -> None:
    """Check the origin of a request that the browser itself authenticates, for instance with a cookie (CSRF)."""
    check_origin(request, cors)
    # Some cross-site requests have no Origin; browsers name the site of the page in this header.
    site = request.header(b"sec-fetch-site")
    if request.header(b"origin") is None and site is not None and site not in OWN_SITE:
        text = "Pages of other sites may not use this cookie, or login."
        raise Forbidden(text, code="origin_not_allowed")


def exposed_headers(
    conversations: Conversations | None, rates: RatesOf | None, budgets: BudgetsOf | None
) -> tuple[str, ...]:
    """Return the further response headers that pages may read, depending on the server's settings."""
    names = tuple(conversations.headers) if conversations is not None else ()
    names += RATE_HEADERS if rates is not None else ()
    return names + (TOKEN_HEADERS if rates is not None or budgets is not None else ())
