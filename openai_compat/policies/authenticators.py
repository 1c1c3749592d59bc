"""Ready ways to tell who calls, for `Server(authenticate=…)`: a host application's login, a proxy's, and their users."""

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
    """Whoever is known to one of these, asked in order. None and a 401 leave it to the next.

    Any other error is the answer. Where nobody knows the caller, it is told the first 401 that one of them raised.
    """
    return lambda request: _ask(request, authenticators, None)


def _ask(request: HttpRequest, authenticators: tuple[Authenticate, ...], refusal: Unauthorized | None) -> Found:
    """Ask one after the other, without a coroutine as long as none of them is one."""
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
        return _ask_on(request, found, authenticators[index + 1 :], refusal)
    if refusal is not None:
        raise refusal
    return None


async def _ask_on(
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
        found = _ask(request, others, refusal)
    return await found if inspect.isawaitable(found) else found


def from_scope(identify: Callable[[Any], Principal | str | None], *, at: str = "user") -> Authenticate:
    """Whoever has logged in to the application that this server is mounted in.

    Args:
        identify: called with what is found there; returns the user's own, lasting id (no e-mail address, which may
            become another's), a principal, or None. An id ann is that of the principal `user:ann`.
        at: where to look in the ASGI scope or the WSGI environ: `user` is what Starlette's AuthenticationMiddleware
            sets, `state.user` what a middleware has set as `request.state.user`, `session` that of SessionMiddleware.

    Nobody has, where nothing is there, or something whose `is_authenticated` is False. Headers are never looked at.
    """
    path = at.split(".")

    def authenticate(request: HttpRequest) -> Principal | None:
        user: Any = request.scope
        for name in path:
            user = cast("Mapping[str, Any]", user).get(name) if isinstance(user, Mapping) else getattr(user, name, None)
        if user is None or getattr(user, "is_authenticated", True) is False:
            return None
        return named("user", identify(user))

    return authenticate


def remote_user() -> Authenticate:
    """Whoever the WSGI server, or the web server before it, has logged in (`REMOTE_USER`), as `user:NAME`."""
    return from_scope(str, at="REMOTE_USER")


def from_header(
    name: str, *, peers: Iterable[str] | None = None, shared: tuple[str, str] | None = None
) -> Authenticate:
    """Whoever a proxy says has logged in there, by a header that it sets on every request. An id ann is `proxy:ann`.

    Args:
        name: the header. There must be one value, and it has to be sent with dashes, not underscores.
        peers: the proxy's addresses or networks (`10.0.0.0/8`). Plain uvicorn takes the address of the *client* from
            `X-Forwarded-For` of peers that it trusts: prefer `shared` there. Not for WSGI.
        shared: the name of another header, and a secret that the proxy sends in it.

    Raises ValueError unless there is one of `peers` and `shared`. Under WSGI, `X_Forwarded_User` of a client is the
    same header as the proxy's `X-Forwarded-User`. Two values are refused; but a proxy that sets none, where nobody has
    logged in, has to take both spellings out of what clients send.
    """
    if (peers is None) == (shared is None) or (shared is not None and not shared[1]):
        raise ValueError("from_header takes the proxy's addresses (peers=…), or a secret of its own (shared=…)")
    # Parsed at start: a typing error is told to the operator, not to the first user.
    networks = [ipaddress.ip_network(peer) for peer in check_strings("peers", peers or ())]
    header = name.lower().encode("latin-1")

    def is_proxy(request: HttpRequest) -> bool:
        if shared is not None:
            sent = request.header_values(shared[0].lower().encode("latin-1"))
            return len(sent) == 1 and compare_digest(sent[0].encode("latin-1"), shared[1].encode())
        if _is_wsgi(request):
            raise ValueError("from_header(peers=…) is not for WSGI, where headers can be forged: give it shared=…")
        peer = _peer(request)
        return peer is not None and any([peer in network for network in networks])

    def authenticate(request: HttpRequest) -> Principal | None:
        if not is_proxy(request):
            return None
        return named("proxy", _one_value(request, header))

    return authenticate


def on_behalf(inner: Authenticate, user: str | Authenticate, *, of: Collection[str]) -> Authenticate:
    """Tells the users of a program apart that calls for all of them with one key, as Open WebUI does.

    Args:
        inner: who the program is, such as `ApiKeys({"sk-…": "open-webui"})`.
        user: the header with its user's id, or an authenticator whose principal's id is the user's.
        of: the ids of the principals that may name users. All others are who they are, whatever they send.

    The user ann of the principal open-webui is `open-webui/ann`, with the models of open-webui. A request that names
    no user is the program's own.
    """
    programs = frozenset(check_strings("of", of))
    # The user of one would have the id of the other's user: what is kept would be shared.
    if any([one.startswith(f"{other}/") for one in programs for other in programs]):
        raise ValueError("of two programs, one cannot be called as a user of the other")
    user_of = _user_in_header(user) if isinstance(user, str) else user

    def authenticate(request: HttpRequest) -> Found:
        def for_user(program: Principal | None) -> Found:
            if program is None or program.id not in programs:
                return program
            return _then(user_of(request), lambda found: _user_of_program(program, found))

        return _then(inner(request), for_user)

    return authenticate


def _user_in_header(name: str) -> Authenticate:
    header = name.lower().encode("latin-1")

    def user_of(request: HttpRequest) -> Principal | None:
        value = _one_value(request, header)
        return None if value is None else Principal(value)

    return user_of


def _user_of_program(program: Principal, user: Principal | None) -> Principal:
    if user is None:
        return program
    return Principal(f"{program.id}/{user.id}", program.models, {**program.claims, **user.claims})


def _then(found: Found, go_on: Callable[[Principal | None], Found]) -> Found:
    """Go on with what was found, now if it is there."""
    return go_on(found) if found is None or isinstance(found, Principal) else _go_on_later(found, go_on)


async def _go_on_later(
    found: Awaitable[Principal | None], go_on: Callable[[Principal | None], Found]
) -> Principal | None:
    result = go_on(await found)
    return await result if inspect.isawaitable(result) else result


def named(kind: str, who: Principal | str | None) -> Principal | None:
    """The principal of a name. Names of one kind cannot be those of another, nor what keys are called."""
    if isinstance(who, str):
        return Principal(f"{kind}:{who}") if who else None
    return who


def _one_value(request: HttpRequest, header: bytes) -> str | None:
    """The one value of a header, as UTF-8. Two are none: which one the proxy has set is anybody's guess."""
    # Of two values, one may be the client's: a proxy that adds its own does not take the other away.
    values = request.header_values(header)
    # WSGI servers put several into one, with commas.
    if len(values) != 1 or ("," in values[0] and _is_wsgi(request)):
        return None
    try:
        return values[0].strip().encode("latin-1").decode() or None
    except UnicodeDecodeError:
        return None


def _peer(request: HttpRequest) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that an ASGI server has seen; None for none, as of a unix socket, or something else in its place."""
    client: Any = request.scope.get("client")
    try:
        address = ipaddress.ip_address(client[0] if client else "")
    except ValueError:
        return None
    # A socket for both families has the address of an IPv4 peer as `::ffff:10.0.0.1`.
    return getattr(address, "ipv4_mapped", None) or address


def _is_wsgi(request: HttpRequest) -> bool:
    """True if it came by WSGI, where one cannot tell `X_User` from `X-User`."""
    return "wsgi.version" in request.scope
