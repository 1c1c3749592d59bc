"""Authentication: anonymous access, API keys, or a function. A failure never admits a caller."""

from __future__ import annotations

import inspect
import logging
import re
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias, cast

import anyio

from ..agent_request import ANONYMOUS, Principal
from ..agents.describe import describe
from ..aio.background import Failure, drop_tracebacks, spawn_at_once
from ..errors import Forbidden, OpenAICompatError, Unauthorized, Unavailable
from ..http import HttpRequest
from .auth import ApiKeys, bearer_token, unknown_caller
from .cors import SAFE_METHODS, Cors, check_origin, check_page

Authenticate: TypeAlias = Callable[[HttpRequest], Principal | Awaitable[Principal | None] | None]
"""Returns the principal of a request, or None if it is unknown, or raises one of the library's errors. The request body
cannot be read.

Called before routing, for each request to a path that is not public; for a WebSocket, when it is opened and before each
of its turns. A plain function must not block, since it would block all requests.
"""

LONGEST_ID = 255
"""Maximum length of a principal's id, in characters."""

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

MOST_SEEN = 100
"""Maximum number of allowed `Host` values that are cached; with ports, there are more values than names."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::\d*)?", re.IGNORECASE)

CHALLENGE = "WWW-Authenticate"

logger = logging.getLogger("openai_compat")


class Hosts:
    """The accepted host names of a server without authentication, so that no web page can reach it by DNS rebinding.

    Any other `Host` is refused (403 `host_not_allowed`). Ports are ignored; "*" allows all names.
    """

    def __init__(self, names: Iterable[str] = LOOPBACK) -> None:
        self._names = frozenset([name.lower() for name in names])
        self._seen: set[bytes | None] = set()

    def check(self, request: HttpRequest) -> None:
        """Raise Forbidden unless `Host` is one of the names. HTTP/1.0 requests may have no Host."""
        host = request.first.get(b"host")
        # Most requests repeat a few values and no header twice: a set lookup costs less than the regex.
        if "*" in self._names or (host in self._seen and len(request.first) == len(request.headers)):
            return
        hosts = request.header_values(b"host")
        if not hosts:
            return
        # DNS rebinding: a page can make its own name resolve to this machine, but cannot choose the Host header.
        match = _HOST.fullmatch(hosts[0])
        if len(hosts) > 1 or match is None or match[1].lower() not in self._names:
            text = "This Host is not allowed. Without an API key, this server answers only to the names in its 'hosts'."
            raise Forbidden(text, code="host_not_allowed")
        if len(self._seen) < MOST_SEEN:
            self._seen.add(host)


class OpenAccess:
    """Admits everyone as one principal. Meant for loopback, where the Host check keeps out pages of other sites."""

    def __init__(self) -> None:
        self._warned = False

    @staticmethod
    def log_mounted() -> None:
        """Log that the server is mounted in an application, which may have a login that the server does not use."""
        logger.info(
            "mounted without keys and without authenticate: all who reach this server are one caller, and share "
            "conversations, responses and files"
        )

    async def principal(self, request: HttpRequest, request_id: str = "") -> Principal:
        """Return the anonymous principal, for any request."""
        scope = request.scope
        if ("user" in scope or "REMOTE_USER" in scope) and not self._warned and _is_logged_in(scope):
            self._warned = True
            logger.warning(
                "there is a login in front of this server, but the server does not use it: all its users are one "
                "caller, and share conversations, responses and files. Give it authenticate=from_scope(…)."
            )
        return ANONYMOUS


def _is_logged_in(scope: Mapping[str, Any]) -> bool:
    user = scope.get("user")  # of Starlette's AuthenticationMiddleware and similar ones
    return bool(scope.get("REMOTE_USER")) or (user is not None and getattr(user, "is_authenticated", True) is True)


class CallerCheck:
    """Admits callers that `authenticate` knows, and no one while it fails or takes longer than `seconds`.

    A request without an API key or token may be a browser's: cookies, and headers added by a proxy, come with every request,
    whatever page made it. Such a request must name one of `hosts`, and come from a page of this server or of an origin in
    `cors`; programs other than browsers send no Origin.

    `metadata` is the URL of the RFC 9728 document, which tells refused clients where to get tokens.
    """

    def __init__(
        self, authenticate: Authenticate, seconds: float, hosts: Hosts, cors: Cors | None, metadata: str | None = None
    ) -> None:
        self._authenticate = authenticate
        self._seconds = seconds
        self._hosts = hosts
        # With a regex, it is unknown whose pages are allowed.
        self._cors = cors if cors is not None and cors.exact else None
        self._metadata = metadata

    async def principal(self, request: HttpRequest, request_id: str = "") -> Principal:
        """Return the principal of `request`.

        Raises Unauthorized (401), Unavailable (503 `auth_unavailable`) if the function fails, Forbidden for a page of another
        site, and any of the library's errors that the function raises.
        """
        try:
            found = await self._call_authenticate(replace(request, body=_NoBody(), left=None))
        except OpenAICompatError as error:
            for note in getattr(error, "__notes__", ()):
                logger.info("%s: %s", request_id, note, extra={"request_id": request_id})
            raise self._with_challenge(error) from None
        except Exception as error:
            _log_failure(error, request, request_id)
            drop_tracebacks(error)
            raise Unavailable("Who calls cannot be found out now.", code="auth_unavailable") from None
        if found is None:
            raise self._with_challenge(unknown_caller())
        if not bearer_token(request):
            # The browser adds a login, for instance a cookie, to requests of other sites' pages too (CSRF).
            self._hosts.check(request)
            check = check_origin if request.method in SAFE_METHODS else check_page
            check(request, self._cors)
        return found

    async def _call_authenticate(self, request: HttpRequest) -> Principal | None:
        found: Any = self._authenticate(request)
        if inspect.isawaitable(found):
            found = await self._wait_for(found)
        if found is not None:
            _check_principal(found)
        return cast("Principal | None", found)

    async def _wait_for(self, answer: Awaitable[Any]) -> Any:
        """Wait for an answer in a separate task: shielded work, for instance in a thread, would outlast the deadline."""
        found: list[Any] = []
        failure = Failure()

        async def ask() -> None:
            try:
                found.append(await answer)
            except Exception as error:
                failure.keep(error)

        task = spawn_at_once(ask, "authenticate", lambda: None)
        try:
            if not task.done:
                with anyio.move_on_after(self._seconds):
                    await task.wait()
        finally:
            if not task.done:
                task.cancel()
        failure.raise_if_any()
        if not found:
            raise TimeoutError(f"authenticate had no answer within {self._seconds:g} s")
        return found[0]

    def _with_challenge(self, error: OpenAICompatError) -> OpenAICompatError:
        """Add the URL of the resource metadata to a 401, if it is known."""
        challenge = error.headers.get(CHALLENGE, "")
        if self._metadata is not None and isinstance(error, Unauthorized) and "resource_metadata" not in challenge:
            scheme, _, rest = challenge.partition(" ")
            error.headers[CHALLENGE] = f'{scheme} resource_metadata="{self._metadata}"{rest and ", "}{rest}'
        return error


Auth: TypeAlias = OpenAccess | ApiKeys | CallerCheck


class _NoBody:
    """The body of the request passed to `authenticate`: not readable, since the endpoint reads it later."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        raise RuntimeError("authenticate cannot read the request's body")


def _check_principal(found: object) -> None:
    """Raise TypeError unless this is a principal, ValueError if its id cannot be a storage key."""
    if not isinstance(found, Principal):
        raise TypeError(f"authenticate returns a Principal or None, not a {type(found).__name__}")
    if found.id == ANONYMOUS.id:
        raise ValueError(f"a principal cannot be called {describe(ANONYMOUS.id)}: that is nobody in particular")
    # The id is not quoted: it may be a token.
    if not 0 < len(found.id) <= LONGEST_ID or not found.id.isprintable():
        raise ValueError(
            f"the id of a principal is of 1 to {LONGEST_ID} printable characters; this one has {len(found.id)}"
        )


def _log_failure(error: Exception, request: HttpRequest, request_id: str) -> None:
    """Log an exception of `authenticate`, without its text if that quotes a credential."""
    cookies = [one.partition("=")[2].strip() for value in request.header_values(b"cookie") for one in value.split(";")]
    secrets = [secret for secret in (bearer_token(request).decode("latin-1"), *cookies) if secret]
    text = "".join(traceback.format_exception(error))
    extra = {"request_id": request_id}
    if any([secret in text for secret in secrets]):
        kind = type(error).__name__
        logger.error("%s: authenticate failed (%s, not shown: it quotes a key)", request_id, kind, extra=extra)
    else:
        logger.error("%s: authenticate failed", request_id, exc_info=error, extra=extra)
