"""Tokens of an identity provider: JWTs, verified with its keys, and other tokens, verified by introspection.

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
    from ._oauth.key_set import KEY_TYPES, FixedKeys, KeySet, fetch_discovered_keys
    from ._oauth.result_cache import ResultCache

__all__ = ("Introspection", "Jwt")

Claims: TypeAlias = Mapping[str, Any]
OfClaims: TypeAlias = Callable[[Claims], Principal | str | None]
Found: TypeAlias = Principal | Awaitable[Principal | None] | None

LONGEST = 16 * 1024
"""Maximum size of a token, in bytes."""

MAX_CACHED = 10_000
"""Maximum number of cached results per authenticator, of some 2 kB each."""

SECRET_BYTES: Mapping[str, int] = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Algorithms with a shared secret, and its minimum size in bytes (RFC 7518, 3.2)."""

REFUSAL_SECONDS = 10.0
"""Seconds for which a refused token is refused again without asking the provider."""


class Jwt:
    """An authenticator for JWTs of `issuer` for `audience`, sent in `Authorization: Bearer`.

    Checks the algorithm, the signature, `exp`, `nbf`, `iat`, `iss`, `aud` and `sub`; all but `nbf` and `iat` are required.
    A token that is no JWT is left to other authenticators (`first_of`). A refused token gets 401 `invalid_token`, and only
    the log has the reason; a missing scope gets 403 `insufficient_scope`.

    Keys are fetched on demand: one fetch for all waiting requests, at most every 30 seconds whatever keys tokens name, and
    hourly in the background. While the provider is unreachable, the cached keys stay in use; without any, requests get 503.

    Args:
        issuer: exactly as in `iss`.
        audience: one of these must be in `aud`; None skips this check, for tokens that are made for this server only.
        jwks: the URL of the issuer's keys, or the keys themselves, as JSON; by default they are found by the issuer's
            metadata (`/.well-known/openid-configuration`).
        secret: shared with the issuer, instead of `jwks`, for HS256.
        algorithms: the allowed signature algorithms. By default RS256, ES256 and EdDSA; HS256 with a secret.
        scopes: all of these must be in `scope`, or `scp`.
        leeway: seconds by which clocks may differ.
        keep: seconds for which a result is cached, at most until the token expires. A revoked token can stay valid that
            long. 0 verifies each request again.
        header: the token's header, if it is not Authorization.
        principal: makes the principal from the claims. An id ann becomes `jwt:ISSUER#ann`; a Principal is used as it is.
            By default the id is the `sub`, and the claims are those of the token.

    Raises ValueError for invalid settings, such as an algorithm without a signature.
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
        known = KEY_TYPES if secret is None else SECRET_BYTES
        for algorithm in self._algorithms:
            if algorithm not in known:
                raise ValueError(f"algorithms are of {', '.join(known)}, not {algorithm!r}")
        self._secret = secret.encode() if isinstance(secret, str) else secret
        if self._secret is not None and len(self._secret) < max(map(SECRET_BYTES.__getitem__, self._algorithms)):
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
                lambda: fetch_discovered_keys(issuer) if url is None else fetch_json(url),
                self._algorithms,
                time.monotonic,
            )
        self._audience = audience if audience is None or isinstance(audience, str) else list(audience)
        self._leeway = leeway
        self._scopes = frozenset(scopes)
        self._keep = keep
        self._header = None if header is None else header.lower().encode("latin-1")
        self._principal = principal
        self._kept = ResultCache[Principal](MAX_CACHED, time.time)

    def __call__(self, request: HttpRequest) -> Found:
        """Return the principal of a valid token, or None without a JWT. Raises Unauthorized for a refused token."""
        token = self._token(request)
        # Not a JWT, perhaps an API key.
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
            # A quarter of the time of `get_unverified_header`; everything is checked again with the signature.
            head = json.loads(base64url_decode(token.partition(".")[0]))
        except (ValueError, RecursionError):  # anybody can send this
            head = None
        if not isinstance(head, dict):
            raise _refused("it cannot be read")
        fields = cast("dict[str, Any]", head)
        algorithm, kid = fields.get("alg"), fields.get("kid")
        # Before the key lookup: the token must not choose its own algorithm.
        if algorithm not in self._algorithms:
            raise _refused("its algorithm is not one of these")
        if kid is not None and not isinstance(kid, str):
            raise _refused("the id of its key is no text")
        if "crit" in fields:
            raise _refused("it has extensions that have to be understood")
        if self._secret is not None:
            return self._verify(token, digest, self._secret, algorithm)
        key = self._keys.find(kid, algorithm)
        if key is None:
            return self._check_after_fetch(token, digest, kid, algorithm)
        return self._verify(token, digest, key, algorithm)

    async def _check_after_fetch(self, token: str, digest: bytes, kid: str | None, algorithm: str) -> Principal | None:
        key = await self._keys.fetch_and_find(kid, algorithm)
        if key is None:
            raise _refused("its key is not one of the issuer's")
        return self._verify(token, digest, key, algorithm)

    def _verify(self, token: str, digest: bytes, key: jwt.PyJWK | bytes, algorithm: str) -> Principal | None:
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
        # Only the class: messages quote the token.
        except jwt.PyJWTError as error:
            raise _refused(type(error).__name__) from None
        _check_scopes(claims, self._scopes)
        found = _principal(claims, self._principal, f"jwt:{self._issuer}#", claims["sub"])
        if found is not None:
            now = self._clock()
            self._kept.keep(digest, found, min(now + self._keep, float(claims["exp"])))
        return found


class Introspection:
    """An authenticator for tokens that the provider verifies by introspection (RFC 7662), sent in `Authorization: Bearer`.

    The provider is asked about each token once in `keep` seconds, and about a refused token once in 10 seconds. If
    the provider does not answer, or refuses the server's credentials, requests get 503 `auth_unavailable`. A token is
    refused in the same way as by `Jwt`.

    Args:
        url: URL of the provider's introspection endpoint.
        client_id: the server's own client id there, sent with the secret by HTTP Basic authentication.
        secret: the server's own secret there.
        audience: if given, one of these must be in `aud`.
        scopes: all of these must be in `scope`.
        keep: seconds for which a result is cached, at most until the token expires; 0 asks the provider each time.
        principal: makes the principal from the provider's response. An id ann becomes `token:HOST#ann`, with the host of
            `url`; a Principal is used as it is. By default the id is the `sub`, and the claims are the response.
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
        self._kept = ResultCache[Principal](MAX_CACHED, time.time)
        self._refused = ResultCache[str](MAX_CACHED, time.time)

    def __call__(self, request: HttpRequest) -> Found:
        """Return the principal of an active token, or None without a token. Raises Unauthorized for a refused token."""
        token = bearer_token(request)
        if not token:
            return None
        if len(token) > LONGEST:
            raise _refused("it is too long")
        digest = sha256(token).digest()
        if (reason := self._refused.get(digest)) is not None:
            raise _refused(reason)
        return self._kept.get(digest) or self._introspect(token.decode("latin-1"), digest)

    async def _introspect(self, token: str, digest: bytes) -> Principal | None:
        try:
            answer = await fetch_json(self._url, {"token": token, "token_type_hint": "access_token"}, self._client)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            # Only the class: the message may quote the token or the secret.
            unavailable = Unavailable("Who calls cannot be found out now.", code="auth_unavailable")
            unavailable.add_note(f"a token could not be checked: {type(error).__name__} of the provider")
            raise unavailable from None
        now = time.time()
        reason = self._invalid_reason(answer, now)
        if reason is not None:
            self._refused.keep(digest, reason, now + min(REFUSAL_SECONDS, self._keep))
            raise _refused(reason)
        _check_scopes(answer, self._scopes)
        found = _principal(answer, self._principal, self._prefix, answer.get("sub"))
        if found is not None:
            self._kept.keep(digest, found, min(now + self._keep, float(answer.get("exp", now + self._keep))))
        return found

    def _invalid_reason(self, answer: Claims, now: float) -> str | None:
        """Return why a token is invalid; None for a valid one."""
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
    """The same error for every invalid token; only the log gets the reason."""
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
    # Read-only, because many requests share the principal.
    fixed = MappingProxyType(dict(claims))
    who = subject if make is None else make(fixed)
    if isinstance(who, str):
        return Principal(prefix + who, claims=fixed) if who else None
    return cast("Principal | None", who)
