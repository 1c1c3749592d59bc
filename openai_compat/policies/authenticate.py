"""Who calls: nobody in particular, the owner of a key, or whom a function names. Nobody gets in by its failing."""

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
from ..aio.background import Failure, let_go, spawn_at_once
from ..errors import Forbidden, OpenAICompatError, Unauthorized, Unavailable
from ..http import HttpRequest
from .auth import ApiKeys, bearer_token, unknown_caller
from .cors import SAFE, Cors, check_origin, check_page

Authenticate: TypeAlias = Callable[[HttpRequest], Principal | Awaitable[Principal | None] | None]
"""Says who sends a request: a principal, None for nobody, or one of our errors. The request's body cannot be read.

It is called before the request is routed, for each request to a path that is not open to all, for a WebSocket as it is
opened and before each of its turns. A plain function must not wait: all requests would wait with it.
"""

LONGEST_ID = 255
"""Characters of a principal's id."""

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

MOST_SEEN = 100
"""Values of `Host` that are remembered to be allowed; with all their ports, there are more than names."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::\d*)?", re.IGNORECASE)

CHALLENGE = "WWW-Authenticate"

logger = logging.getLogger("openai_compat")


class Hosts:
    """The names that a server answers to where no key is sent, so that no web page can reach it by DNS rebinding.

    Any other `Host` is refused (403 `host_not_allowed`). Ports do not matter; "*" allows all.
    """

    def __init__(self, names: Iterable[str] = LOOPBACK) -> None:
        self._names = frozenset([name.lower() for name in names])
        self._seen: set[bytes | None] = set()

    def check(self, request: HttpRequest) -> None:
        """Raise Forbidden unless the request is for one of the names. HTTP/1.0 may go without a Host."""
        host = request.first.get(b"host")
        # Most requests have the same few, and no header twice: a look into a set costs less than the expression.
        if "*" in self._names or (host in self._seen and len(request.first) == len(request.headers)):
            return
        hosts = request.header_values(b"host")
        if not hosts:
            return
        # DNS rebinding: a page may have its own name resolve to this machine, but cannot choose the Host.
        match = _HOST.fullmatch(hosts[0])
        if len(hosts) > 1 or match is None or match[1].lower() not in self._names:
            text = "This Host is not allowed. Without an API key, this server answers only to the names in its 'hosts'."
            raise Forbidden(text, code="host_not_allowed")
        if len(self._seen) < MOST_SEEN:
            self._seen.add(host)


class OpenAccess:
    """Lets everybody in, as one. Meant for loopback, where the Host check keeps other sites' pages out."""

    def __init__(self) -> None:
        self._told = False

    @staticmethod
    def tell_mounted() -> None:
        """Tell the log that the server is now part of an application, which may have a login. Requests will show."""
        logger.info(
            "mounted without keys and without authenticate: all who reach this server are one caller, and share "
            "conversations, responses and files"
        )

    async def principal(self, request: HttpRequest, request_id: str = "") -> Principal:
        """The anonymous principal, for any request."""
        scope = request.scope
        if ("user" in scope or "REMOTE_USER" in scope) and not self._told and _is_logged_in(scope):
            self._told = True
            logger.warning(
                "there is a login in front of this server, but the server does not use it: all its users are one "
                "caller, and share conversations, responses and files. Give it authenticate=from_scope(…)."
            )
        return ANONYMOUS


def _is_logged_in(scope: Mapping[str, Any]) -> bool:
    user = scope.get("user")  # of Starlette's AuthenticationMiddleware, and those like it
    return bool(scope.get("REMOTE_USER")) or (user is not None and getattr(user, "is_authenticated", True) is True)


class CallerCheck:
    """Lets in whom `authenticate` knows, and nobody while it fails, or has no answer after `seconds`.

    Who is let in without a key or token of its own, a browser may have sent: cookies, and what a proxy adds, come with
    every request, whatever page has caused it. Such requests have to be for one of `hosts`, and from a page of this
    server or of an origin that `cors` names; programs that are no browsers send no Origin.

    `metadata` is the URL that says where tokens are to be had, for clients that are refused (RFC 9728).
    """

    def __init__(
        self, authenticate: Authenticate, seconds: float, hosts: Hosts, cors: Cors | None, metadata: str | None = None
    ) -> None:
        self._authenticate = authenticate
        self._seconds = seconds
        self._hosts = hosts
        # Whose pages an expression matches is not known.
        self._cors = cors if cors is not None and cors.exact else None
        self._metadata = metadata

    async def principal(self, request: HttpRequest, request_id: str = "") -> Principal:
        """Who sends `request`.

        Raises Unauthorized (401), Unavailable (503 `auth_unavailable`) where the function fails, Forbidden for another
        site's page, and whichever of our errors the function raises.
        """
        try:
            found = await self._ask(replace(request, body=_NoBody(), left=None))
        except OpenAICompatError as error:
            for note in getattr(error, "__notes__", ()):
                logger.info("%s: %s", request_id, note, extra={"request_id": request_id})
            raise self._with_challenge(error) from None
        except Exception as error:
            _log_failure(error, request, request_id)
            let_go(error)
            raise Unavailable("Who calls cannot be found out now.", code="auth_unavailable") from None
        if found is None:
            raise self._with_challenge(unknown_caller())
        if not bearer_token(request):
            # A login that the browser sends by itself, such as a cookie, goes along with other pages' requests too.
            self._hosts.check(request)
            check = check_origin if request.method in SAFE else check_page
            check(request, self._cors)
        return found

    async def _ask(self, request: HttpRequest) -> Principal | None:
        found: Any = self._authenticate(request)
        if inspect.isawaitable(found):
            found = await self._in_time(found)
        if found is not None:
            _check_principal(found)
        return cast("Principal | None", found)

    async def _in_time(self, answer: Awaitable[Any]) -> Any:
        """Wait for an answer, in a task of its own: what is shielded, as threads are, would keep us past the deadline."""
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
        """The error, with where tokens are to be had, if that is known."""
        challenge = error.headers.get(CHALLENGE, "")
        if self._metadata is not None and isinstance(error, Unauthorized) and "resource_metadata" not in challenge:
            scheme, _, rest = challenge.partition(" ")
            error.headers[CHALLENGE] = f'{scheme} resource_metadata="{self._metadata}"{rest and ", "}{rest}'
        return error


Auth: TypeAlias = OpenAccess | ApiKeys | CallerCheck


class _NoBody:
    """The body of the request that an `authenticate` is given: whoever it lets in is to read it."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        raise RuntimeError("authenticate cannot read the request's body")


def _check_principal(found: object) -> None:
    """Raise TypeError for no principal, ValueError for one whose id cannot be the key of what is stored."""
    if not isinstance(found, Principal):
        raise TypeError(f"authenticate returns a Principal or None, not a {type(found).__name__}")
    if found.id == ANONYMOUS.id:
        raise ValueError(f"a principal cannot be called {describe(ANONYMOUS.id)}: that is nobody in particular")
    # Not shown: it may be a token.
    if not 0 < len(found.id) <= LONGEST_ID or not found.id.isprintable():
        raise ValueError(
            f"the id of a principal is of 1 to {LONGEST_ID} printable characters; this one has {len(found.id)}"
        )


def _log_failure(error: Exception, request: HttpRequest, request_id: str) -> None:
    """Log what `authenticate` has raised, unless it quotes what lets callers in."""
    cookies = [one.partition("=")[2].strip() for value in request.header_values(b"cookie") for one in value.split(";")]
    secrets = [secret for secret in (bearer_token(request).decode("latin-1"), *cookies) if secret]
    text = "".join(traceback.format_exception(error))
    extra = {"request_id": request_id}
    if any([secret in text for secret in secrets]):
        kind = type(error).__name__
        logger.error("%s: authenticate failed (%s, not shown: it quotes a key)", request_id, kind, extra=extra)
    else:
        logger.error("%s: authenticate failed", request_id, exc_info=error, extra=extra)
