"""Which web pages may call the server from a browser. Off unless origins are given."""

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
# Pages are shown few other headers (Fetch standard), and SDKs in them go by these.
EXPOSED = "x-request-id, retry-after, x-should-retry, openai-processing-ms, x-ignored-parameters"
MAX_AGE = "86400"
"""Seconds a browser may keep the answer to a preflight."""

MAX_ORIGIN = 300
"""Characters of an origin that is compared with an expression: a host's name has up to 253."""

SAFE = frozenset(["GET", "HEAD", "OPTIONS"])
"""Methods that change nothing."""

OWN_SITE = frozenset(["same-origin", "none"])

_ORIGIN = re.compile(r"https?://[^/?#@\s]+")


class Cors:
    """Allows exact `origins` (`https://app.example`), and those that `regex` matches as a whole.

    Raises ValueError for an origin that no browser would send.
    """

    def __init__(self, origins: Iterable[str] = (), regex: str | None = None) -> None:
        self._origins = frozenset(check_strings("origins", origins))
        self._regex = re.compile(regex) if regex is not None else None
        for origin in self._origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"not an origin (scheme, host and port, without a path): {origin!r}")

    def allows(self, origin: str) -> bool:
        """True if pages from `origin` may call."""
        if origin in self._origins:
            return True
        # The pattern is the operator's, the text a stranger's: the length bounds what matching can cost.
        return len(origin) <= MAX_ORIGIN and self._regex is not None and self._regex.fullmatch(origin) is not None

    @property
    def exact(self) -> bool:
        """True if every origin is named, so that their pages may be trusted with cookies."""
        return self._regex is None

    def headers(
        self, request: HttpRequest, exposed: Iterable[str] = (), *, cookies: bool = False
    ) -> list[tuple[str, str]]:
        """The CORS headers for an answer to `request`, errors included; none for an origin that is not allowed.

        Pages may read the headers in EXPOSED, and those `exposed` beside them; with `cookies`, they may send these.
        """
        origin = request.header(b"origin")
        if origin is None or not self.allows(origin):
            # Else a cache could give this answer to a page that is allowed.
            return [("Vary", "Origin")]
        return [
            ("Access-Control-Allow-Origin", origin),
            *([("Access-Control-Allow-Credentials", "true")] if cookies else []),
            ("Access-Control-Expose-Headers", ", ".join([EXPOSED, *exposed])),
            ("Vary", "Origin"),
        ]

    def preflight_headers(self, request: HttpRequest) -> list[tuple[str, str]]:
        """Extra headers of a preflight answer. SDKs send many headers, so those that are asked for are allowed."""
        # A list would miss headers: OpenAI's SDKs alone send a dozen `x-stainless-…`, and more with each release.
        wanted = request.header(b"access-control-request-headers") or "authorization, content-type"
        return [
            ("Access-Control-Allow-Methods", METHODS),
            ("Access-Control-Allow-Headers", wanted),
            ("Access-Control-Max-Age", MAX_AGE),
        ]


def is_preflight(request: HttpRequest) -> bool:
    """True if a browser asks to send another request (Fetch standard, CORS preflight)."""
    return (
        request.method == "OPTIONS"
        and request.header(b"origin") is not None
        and request.header(b"access-control-request-method") is not None
    )


def check_origin(request: HttpRequest, cors: Cors | None) -> None:
    """Raise Forbidden (403 `origin_not_allowed`) for a WebSocket from another site's page that `cors` does not allow.

    Browsers ask nobody before they open one, wherever it goes. Programs that are no browsers send no Origin.
    """
    origin = request.header(b"origin")
    if origin is None or (cors is not None and cors.allows(origin)):
        return
    # The server's own pages need no `cors`: their origin is the host that was called.
    if origin.partition("://")[2] != request.header(b"host"):
        text = "Pages from this Origin may not connect. A server allows those that its 'cors' names."
        raise Forbidden(text, code="origin_not_allowed")


def check_page(request: HttpRequest, cors: Cors | None) -> None:
    """The same for a request that a browser has sent what lets it in with, whatever page it came from (CSRF)."""
    check_origin(request, cors)
    # Some requests of other sites' pages come without Origin; browsers tell by this header whose page it was.
    site = request.header(b"sec-fetch-site")
    if request.header(b"origin") is None and site is not None and site not in OWN_SITE:
        text = "Pages of other sites may not use this cookie, or login."
        raise Forbidden(text, code="origin_not_allowed")


def exposed_headers(
    conversations: Conversations | None, rates: RatesOf | None, budgets: BudgetsOf | None
) -> tuple[str, ...]:
    """Headers of answers that pages may read because of how the server is set up."""
    names = tuple(conversations.headers) if conversations is not None else ()
    names += RATE_HEADERS if rates is not None else ()
    return names + (TOKEN_HEADERS if rates is not None or budgets is not None else ())
