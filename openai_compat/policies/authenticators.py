"""Ready-made functions for `Server(authenticate=…)`: the login of a host application or a proxy, and users of a client."""

from __future__ import annotations

import inspect
import ipaddress
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from hmac import compare_digest
from typing import Any, TypeAlias, cast

from ..agent_request import Principal
from ..agents.setting_types import check_strings
from ..errors import Unauthorized
from ..http import HttpRequest
from .authenticate import Authenticate

Found: TypeAlias = Principal | Awaitable[Principal | None] | None


def first_of(*authenticators: Authenticate) -> Authenticate:
    """Ask several authenticators in order; the first that knows the caller wins. None and a 401 pass on to the next.

    Any other error ends the search. If none knows the caller, the first 401 that was raised is the answer.
    """
    return lambda request: _ask_each(request, authenticators, None)


def _ask_each(request: HttpRequest, authenticators: tuple[Authenticate, ...], refusal: Unauthorized | None) -> Found:
    """Ask the authenticators in turn, without a coroutine as long as none of them is async."""
    for index, authenticator in enumerate(authenticators):
        try:
            found = authenticator(request)
        except Unauthorized as error:
            refusal = refusal or error
            continue
        if found is None:
            continue
        if isinstance(found, Principal) or not inspect.isawaitable(found):
            return found
        return _await_and_ask_others(request, found, authenticators[index + 1 :], refusal)
    if refusal is not None:
        raise refusal
    return None


async def _await_and_ask_others(
    request: HttpRequest,
    first: Awaitable[Principal | None],
    others: tuple[Authenticate, ...],
    refusal: Unauthorized | None,
) -> Principal | None:
    found: Found = None
    try:
        found = await first
    except Unauthorized as error:
        refusal = refusal or error
    if found is None:
        found = _ask_each(request, others, refusal)
    return await found if inspect.isawaitable(found) else found


def from_scope(identify: Callable[[Any], Principal | str | None], *, at: str = "user") -> Authenticate:
    """Authenticate the user who is logged in to the application that this server is mounted in.

    Args:
        identify: called with the object found at `at`; returns the user's permanent id (not an e-mail address, which may
            be reassigned), a principal, or None. The id ann becomes the principal `user:ann`.
        at: path in the ASGI scope or the WSGI environ: `user` is set by Starlette's AuthenticationMiddleware, `state.user`
            by a middleware that sets `request.state.user`, `session` by SessionMiddleware.

    No one is logged in if nothing is found, or an object whose `is_authenticated` is False. Headers are never read.
    """
    path = at.split(".")

    def authenticate(request: HttpRequest) -> Principal | None:
        user: Any = request.scope
        for name in path:
            user = cast("Mapping[str, Any]", user).get(name) if isinstance(user, Mapping) else getattr(user, name, None)
        if user is None or getattr(user, "is_authenticated", True) is False:
            return None
        return to_principal("user", identify(user))

    return authenticate


def remote_user() -> Authenticate:
    """Authenticate the user whom the WSGI server, or a web server in front, has logged in (`REMOTE_USER`), as `user:NAME`."""
    return from_scope(str, at="REMOTE_USER")


def from_header(
    name: str, *, peers: Iterable[str] | None = None, shared: tuple[str, str] | None = None
) -> Authenticate:
    """Authenticate the user whom a proxy names in a header on every request. The id ann becomes `proxy:ann`.

    Args:
        name: the header. It must have one value, and be written with dashes, not underscores.
        peers: the proxy's addresses or networks (`10.0.0.0/8`). Plain uvicorn reads the *client's* address from
            `X-Forwarded-For` of peers that it trusts: prefer `shared` there. Not for WSGI.
        shared: the name of another header, and a secret that the proxy sends in it.

    Raises ValueError unless exactly one of `peers` and `shared` is given. Under WSGI, a client's `X_Forwarded_User` is the
    same header as the proxy's `X-Forwarded-User`. Two values are refused, but a proxy that omits the header when no one is
    logged in must remove both spellings from client requests.
    """
    if (peers is None) == (shared is None) or (shared is not None and not shared[1]):
        raise ValueError("from_header takes the proxy's addresses (peers=…), or a secret of its own (shared=…)")
    # Parsed at start, so that the operator sees a typo, not the first user.
    networks = [ipaddress.ip_network(peer) for peer in check_strings("peers", peers or ())]
    header = name.lower().encode("latin-1")

    def is_proxy(request: HttpRequest) -> bool:
        if shared is not None:
            sent = request.header_values(shared[0].lower().encode("latin-1"))
            return len(sent) == 1 and compare_digest(sent[0].encode("latin-1"), shared[1].encode())
        if _is_wsgi(request):
            raise ValueError("from_header(peers=…) is not for WSGI, where headers can be forged: give it shared=…")
        peer = _peer_address(request)
        return peer is not None and any([peer in network for network in networks])

    def authenticate(request: HttpRequest) -> Principal | None:
        if not is_proxy(request):
            return None
        return to_principal("proxy", _single_value(request, header))

    return authenticate


def on_behalf(inner: Authenticate, user: str | Authenticate, *, of: Collection[str]) -> Authenticate:
    """Separate the users of a client program that sends one key for all of them, as Open WebUI does.

    Args:
        inner: authenticates the program, for instance `ApiKeys({"sk-…": "open-webui"})`.
        user: the header with the user's id, or an authenticator whose principal's id is the user's.
        of: ids of the principals that may name users. Any other principal is used as it is, whatever it sends.

    The user ann of the principal open-webui becomes `open-webui/ann`, with the models of open-webui. A request that names
    no user belongs to the program.
    """
    programs = frozenset(check_strings("of", of))
    # A program named like another's user would share that user's stored data.
    if any([one.startswith(f"{other}/") for one in programs for other in programs]):
        raise ValueError("of two programs, one cannot be called as a user of the other")
    user_of = _user_in_header(user) if isinstance(user, str) else user

    def authenticate(request: HttpRequest) -> Found:
        def for_user(program: Principal | None) -> Found:
            if program is None or program.id not in programs:
                return program
            return _with_result(user_of(request), lambda found: _user_of_program(program, found))

        return _with_result(inner(request), for_user)

    return authenticate


def _user_in_header(name: str) -> Authenticate:
    header = name.lower().encode("latin-1")

    def user_of(request: HttpRequest) -> Principal | None:
        value = _single_value(request, header)
        return None if value is None else Principal(value)

    return user_of


def _user_of_program(program: Principal, user: Principal | None) -> Principal:
    if user is None:
        return program
    return Principal(f"{program.id}/{user.id}", program.models, {**program.claims, **user.claims})


def _with_result(found: Found, callback: Callable[[Principal | None], Found]) -> Found:
    """Call `callback` with the result, at once if no await is needed."""
    return callback(found) if found is None or isinstance(found, Principal) else _await_result(found, callback)


async def _await_result(
    found: Awaitable[Principal | None], callback: Callable[[Principal | None], Found]
) -> Principal | None:
    result = callback(await found)
    return await result if inspect.isawaitable(result) else result


def to_principal(kind: str, who: Principal | str | None) -> Principal | None:
    """Return the principal for a name. The prefix keeps kinds of names apart from each other and from key ids."""
    if isinstance(who, str):
        return Principal(f"{kind}:{who}") if who else None
    return who


def _single_value(request: HttpRequest, header: bytes) -> str | None:
    """Return the single value of a header, as UTF-8; None for two, since it is unknown which one the proxy has set."""
    # One of two values may be the client's: a proxy that adds its value does not remove the client's.
    values = request.header_values(header)
    # WSGI servers join several values with commas.
    if len(values) != 1 or ("," in values[0] and _is_wsgi(request)):
        return None
    try:
        return values[0].strip().encode("latin-1").decode() or None
    except UnicodeDecodeError:
        return None


def _peer_address(request: HttpRequest) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the peer address from the ASGI server; None if there is none (unix socket), or it is not an IP address."""
    client: Any = request.scope.get("client")
    try:
        address = ipaddress.ip_address(client[0] if client else "")
    except ValueError:
        return None
    # A dual-stack socket reports an IPv4 peer as `::ffff:10.0.0.1`.
    return getattr(address, "ipv4_mapped", None) or address


def _is_wsgi(request: HttpRequest) -> bool:
    """True for a WSGI request, where `X_User` and `X-User` are the same."""
    return "wsgi.version" in request.scope
