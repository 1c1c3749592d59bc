"""Tokens of an identity provider: JWTs that are checked by its keys, and others that it is asked about.

Server(agent, authenticate=Jwt("https://login.example", "my-agents"))
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from hashlib import sha256
from types import MappingProxyType
from typing import Any, TypeAlias, cast
from urllib.parse import urlsplit

from openai_compat import Principal
from openai_compat.errors import Forbidden, Unauthorized, Unavailable
from openai_compat.http import HttpRequest
from openai_compat.package import needs
from openai_compat.policies.auth import bearer_token

with needs(__name__, "oauth"):
    import httpx2
    import jwt
    from jwt.utils import base64url_decode

    from ._oauth.fetch import fetch_json
    from ._oauth.kept_results import KeptResults
    from ._oauth.key_set import KINDS, FixedKeys, KeySet, discovered

__all__ = ("Introspection", "Jwt")

Claims: TypeAlias = Mapping[str, Any]
OfClaims: TypeAlias = Callable[[Claims], Principal | str | None]
Found: TypeAlias = Principal | Awaitable[Principal | None] | None

LONGEST = 16 * 1024
"""Bytes of a token that is looked at."""

MOST_KEPT = 10_000
"""Results that are kept of each: some 2 kB each."""

SECRETS: Mapping[str, int] = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Algorithms with a shared secret, and the bytes that it has at least (RFC 7518, 3.2)."""

REFUSED_FOR = 10.0
"""Seconds for which a token that the provider does not know is refused without asking again."""


class Jwt:
    """Lets in whoever has a JWT of `issuer` for `audience`, in `Authorization: Bearer`. An authenticator.

    The algorithm, the signature, `exp`, `nbf`, `iat`, `iss`, `aud` and `sub` are checked, and all but `nbf` and `iat`
    have to be there. A token that is no JWT is left to others (`first_of`). A refusal is 401 `invalid_token`, and
    why is in the log alone; a scope that is missing is 403 `insufficient_scope`.

    Keys are fetched when they are needed: once for all who wait, not more often than each 30 seconds whatever keys
    tokens name, and each hour beside. While the provider is away those at hand go on being used; without any, 503.

    Args:
        issuer: as in `iss`, exactly.
        audience: one of these has to be in `aud`; None looks at none, which is for tokens that are made for this server.
        jwks: the URL of the issuer's keys, or these themselves, as JSON; by default the issuer's metadata is asked
            (`/.well-known/openid-configuration`).
        secret: shared with the issuer, instead of `jwks`, for HS256.
        algorithms: those that tokens may be signed by. By default RS256, ES256 and EdDSA; HS256 with a secret.
        scopes: all of these have to be in `scope`, or `scp`.
        leeway: seconds by which clocks may differ.
        keep: seconds for which a result is kept, at most until the token expires: so long may a token be good that
            was taken back. 0 checks each anew.
        header: where the token is, if it is not in Authorization.
        principal: makes the principal of the claims. An id ann becomes `jwt:ISSUER#ann`; a Principal is taken as it is.
            By default the id is the `sub`, and the claims are those of the token.

    Raises ValueError for settings that make no sense, such as an algorithm without signature.
    """

    def __init__(
        self,
        issuer: str,
        audience: str | Collection[str] | None,
        *,
        jwks: str | Mapping[str, Any] | None = None,
        secret: str | bytes | None = None,
        algorithms: Sequence[str] | None = None,
        scopes: Collection[str] = (),
        leeway: float = 30.0,
        keep: float = 300.0,
        header: str | None = None,
        principal: OfClaims | None = None,
    ) -> None:
        self._issuer = issuer
        self._algorithms = tuple(algorithms or (["RS256", "ES256", "EdDSA"] if secret is None else ["HS256"]))
        known = KINDS if secret is None else SECRETS
        for algorithm in self._algorithms:
            if algorithm not in known:
                raise ValueError(f"algorithms are of {', '.join(known)}, not {algorithm!r}")
        self._secret = secret.encode() if isinstance(secret, str) else secret
        if self._secret is not None and len(self._secret) < max(map(SECRETS.__getitem__, self._algorithms)):
            raise ValueError("the secret is too short for its algorithm: HS256 takes one of 32 bytes at least")
        if secret is not None and jwks is not None:
            raise ValueError("a token is checked by jwks or by a secret, not both")
        self._clock = time.time
        self._keys: KeySet | FixedKeys
        if isinstance(jwks, Mapping):
            self._keys = FixedKeys(jwks, self._algorithms)
        else:
            url = jwks
            self._keys = KeySet(
                lambda: discovered(issuer) if url is None else fetch_json(url), self._algorithms, time.monotonic
            )
        self._audience = audience if audience is None or isinstance(audience, str) else list(audience)
        self._leeway = leeway
        self._scopes = frozenset(scopes)
        self._keep = keep
        self._header = None if header is None else header.lower().encode("latin-1")
        self._principal = principal
        self._kept = KeptResults[Principal](MOST_KEPT, time.time)

    def __call__(self, request: HttpRequest) -> Found:
        """The caller that a valid token names; None without one. Raises Unauthorized for a token that is refused."""
        token = self._token(request)
        # Something else than a JWT: an API key, perhaps.
        if token.count(b".") != 2:
            return None
        if len(token) > LONGEST:
            raise _refused("it is too long")
        digest = sha256(token).digest()
        return self._kept.get(digest) or self._check(token.decode("latin-1"), digest)

    def _token(self, request: HttpRequest) -> bytes:
        if self._header is None:
            return bearer_token(request)
        values = request.header_values(self._header)
        return values[0].strip().encode("latin-1") if len(values) == 1 else b""

    def _check(self, token: str, digest: bytes) -> Found:
        try:
            # A quarter of what `get_unverified_header` takes; all of it is checked again with the signature.
            head = json.loads(base64url_decode(token.partition(".")[0]))
        except (ValueError, RecursionError):  # made by anybody
            head = None
        if not isinstance(head, dict):
            raise _refused("it cannot be read")
        fields = cast("dict[str, Any]", head)
        algorithm, kid = fields.get("alg"), fields.get("kid")
        # Before a key is looked for: which one fits is not for the token to say.
        if algorithm not in self._algorithms:
            raise _refused("its algorithm is not one of these")
        if kid is not None and not isinstance(kid, str):
            raise _refused("the id of its key is no text")
        if "crit" in fields:
            raise _refused("it has extensions that have to be understood")
        if self._secret is not None:
            return self._verified(token, digest, self._secret, algorithm)
        key = self._keys.find(kid, algorithm)
        if key is None:
            return self._check_later(token, digest, kid, algorithm)
        return self._verified(token, digest, key, algorithm)

    async def _check_later(self, token: str, digest: bytes, kid: str | None, algorithm: str) -> Principal | None:
        key = await self._keys.find_anew(kid, algorithm)
        if key is None:
            raise _refused("its key is not one of the issuer's")
        return self._verified(token, digest, key, algorithm)

    def _verified(self, token: str, digest: bytes, key: jwt.PyJWK | bytes, algorithm: str) -> Principal | None:
        required = ["exp", "sub", "iss", *(["aud"] if self._audience is not None else [])]
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway,
                options={"require": required, "verify_aud": self._audience is not None},
            )
        # By its class alone: texts quote what is in the token.
        except jwt.PyJWTError as error:
            raise _refused(type(error).__name__) from None
        _check_scopes(claims, self._scopes)
        found = _principal(claims, self._principal, f"jwt:{self._issuer}#", claims["sub"])
        if found is not None:
            now = self._clock()
            self._kept.keep(digest, found, min(now + self._keep, float(claims["exp"])))
        return found


class Introspection:
    """Lets in whoever has a token that its provider says is good (RFC 7662), in `Authorization: Bearer`. An authenticator.

    The provider is asked about each token once in `keep` seconds, and once in 10 about those that it does not know. A
    provider that does not answer, or refuses our own credentials, is 503 `auth_unavailable`. Refusals are as `Jwt`'s.

    Args:
        url: of the provider's introspection endpoint.
        client_id: our own name there, sent as HTTP Basic with the secret.
        secret: our own secret there.
        audience: one of these has to be in `aud`, where given.
        scopes: all of these have to be in `scope`.
        keep: seconds for which a result is kept, at most until the token expires; 0 asks each time.
        principal: makes the principal of the answer. An id ann becomes `token:HOST#ann`, with the host of `url`; a
            Principal is taken as it is. By default the id is the `sub`, and the claims are the answer.
    """

    def __init__(
        self,
        url: str,
        client_id: str,
        secret: str,
        *,
        audience: str | Collection[str] | None = None,
        scopes: Collection[str] = (),
        keep: float = 60.0,
        principal: OfClaims | None = None,
    ) -> None:
        self._url = url
        self._client = (client_id, secret)
        self._prefix = f"token:{urlsplit(url).netloc}#"
        self._audience = None if audience is None else {audience} if isinstance(audience, str) else set(audience)
        self._scopes = frozenset(scopes)
        self._keep = keep
        self._principal = principal
        self._kept = KeptResults[Principal](MOST_KEPT, time.time)
        self._refused = KeptResults[str](MOST_KEPT, time.time)

    def __call__(self, request: HttpRequest) -> Found:
        """The caller that an active token names; None without one. Raises Unauthorized for a token that is refused."""
        token = bearer_token(request)
        if not token:
            return None
        if len(token) > LONGEST:
            raise _refused("it is too long")
        digest = sha256(token).digest()
        if (reason := self._refused.get(digest)) is not None:
            raise _refused(reason)
        return self._kept.get(digest) or self._ask(token.decode("latin-1"), digest)

    async def _ask(self, token: str, digest: bytes) -> Principal | None:
        try:
            answer = await fetch_json(self._url, {"token": token, "token_type_hint": "access_token"}, self._client)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            # By its class alone: its text may quote what was sent.
            unavailable = Unavailable("Who calls cannot be found out now.", code="auth_unavailable")
            unavailable.add_note(f"a token could not be checked: {type(error).__name__} of the provider")
            raise unavailable from None
        now = time.time()
        reason = self._fault(answer, now)
        if reason is not None:
            self._refused.keep(digest, reason, now + min(REFUSED_FOR, self._keep))
            raise _refused(reason)
        _check_scopes(answer, self._scopes)
        found = _principal(answer, self._principal, self._prefix, answer.get("sub"))
        if found is not None:
            self._kept.keep(digest, found, min(now + self._keep, float(answer.get("exp", now + self._keep))))
        return found

    def _fault(self, answer: Claims, now: float) -> str | None:
        """Why a token is not good; None for one that is."""
        if answer.get("active") is not True:
            return "it is not active"
        expires, audience = answer.get("exp", now + 1), answer.get("aud", [])
        if not isinstance(expires, int | float) or expires <= now:
            return "it has expired"
        named = {audience} if isinstance(audience, str) else set(cast("list[str]", audience))
        if self._audience is not None and not self._audience & named:
            return "it is for another audience"
        if self._principal is None and not (isinstance(answer.get("sub"), str) and answer["sub"]):
            return "it is nobody's"
        return None


def _refused(reason: str) -> Unauthorized:
    """The same for every token that is not good: why is for the log."""
    error = Unauthorized(
        "The token is not valid. Get a new one.",
        code="invalid_token",
        headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
    )
    error.add_note(f"a token was refused: {reason}")
    return error


def _check_scopes(claims: Claims, needed: frozenset[str]) -> None:
    said: Any = claims.get("scope") or claims.get("scp") or ()
    granted = said.split() if isinstance(said, str) else said
    if not needed.issubset(granted):
        listed = " ".join(sorted(needed))
        challenge = f'Bearer error="insufficient_scope", scope="{listed}"'
        text = "The token does not allow this."
        raise Forbidden(text, code="insufficient_scope", headers={"WWW-Authenticate": challenge})


def _principal(claims: Claims, make: OfClaims | None, prefix: str, subject: Any) -> Principal | None:
    # Not to be changed: the principal is that of many requests.
    fixed = MappingProxyType(dict(claims))
    who = subject if make is None else make(fixed)
    if isinstance(who, str):
        return Principal(prefix + who, claims=fixed) if who else None
    return cast("Principal | None", who)
