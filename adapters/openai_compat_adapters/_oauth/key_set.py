"""The public keys of a token issuer: fetched rarely, one fetch at a time, and kept while the issuer is unreachable."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast
from urllib.parse import urlsplit

import httpx2
import jwt

from openai_compat.aio.background import Task, spawn
from openai_compat.errors import Unavailable

from .fetch import fetch_json

FETCH_INTERVAL = 30.0
"""Seconds between two fetches: anybody can invent key ids, and each of them may be a new key."""

FIRST_FETCH_INTERVAL = 3.0
"""Seconds between two fetches while there are no keys at all."""

RENEWAL_SECONDS = 3600.0
"""Seconds after which the keys are fetched again, which drops keys that their issuer has revoked."""

MAX_KEYS = 100
MIN_RSA_BITS = 2048
"""Minimum size of an RSA key, in bits."""

KEY_TYPES: Mapping[str, tuple[str, str | None]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "ES256K": ("EC", "secp256k1"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""The algorithms of public keys, each with the type and the curve of a key. No shared secrets."""

Found: TypeAlias = Mapping[tuple[str, str], jwt.PyJWK]

logger = logging.getLogger("openai_compat")


class KeySet:
    """An issuer's keys, by id and algorithm.

    `source` returns an awaitable of the JWKS document; each fetch calls it.
    """

    def __init__(self, source: Callable[[], Any], algorithms: Sequence[str], clock: Callable[[], float]) -> None:
        self._source = source
        self._algorithms = algorithms
        self._clock = clock
        self._keys: Found = {}
        self._renewed_at: float | None = None
        self._fetched_at: float | None = None
        self._fetching: Task | None = None

    def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """Return the key from the cache. Old keys are renewed in the background."""
        if self._renewed_at is not None and self._clock() - self._renewed_at > RENEWAL_SECONDS and self._may_fetch():
            self._fetch()
        return find_key(self._keys, kid, algorithm)

    async def fetch_and_find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """Return the key after a fetch, if one is allowed now. Raises Unavailable if there are no keys at all."""
        if self._fetching is not None and not self._fetching.done:
            await self._fetching.wait()
        elif self._may_fetch():
            await self._fetch().wait()
        if not self._keys:
            error = Unavailable("Who calls cannot be found out now.", code="auth_unavailable")
            error.add_note("a token could not be checked: there are no keys of its issuer")
            raise error
        return find_key(self._keys, kid, algorithm)

    def _may_fetch(self) -> bool:
        if self._fetching is not None and not self._fetching.done:
            return False
        return self._fetched_at is None or self._clock() - self._fetched_at >= (
            FETCH_INTERVAL if self._keys else FIRST_FETCH_INTERVAL
        )

    def _fetch(self) -> Task:
        self._fetched_at = self._clock()
        # A separate task: all waiting requests share it, so it must continue when the first of them leaves.
        self._fetching = spawn(self._renew, "keys of an issuer", lambda: None)
        return self._fetching

    async def _renew(self) -> None:
        try:
            keys = read_keys(await self._source(), self._algorithms)
            if not keys:
                raise ValueError("no usable key in it")
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            kept = "its former keys go on being used" if self._keys else "tokens cannot be checked"
            # Not the error's text, which may quote untrusted input.
            logger.warning("the keys of an issuer of tokens cannot be had (%s): %s", type(error).__name__, kept)
            return
        self._keys, self._renewed_at = keys, self._clock()


class FixedKeys:
    """The keys of a fixed JWKS."""

    def __init__(self, document: Mapping[str, Any], algorithms: Sequence[str]) -> None:
        self._keys = read_keys(document, algorithms)
        if not self._keys:
            raise ValueError(f"there is no key for any of {', '.join(algorithms)} in jwks")

    def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """Return the key, or None."""
        return find_key(self._keys, kid, algorithm)

    async def fetch_and_find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """Same as `find`: the keys never change."""
        return self.find(kid, algorithm)


def find_key(keys: Found, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
    """Return the key with this id; for a token without a key id, the only key for its algorithm."""
    if kid is not None:
        return keys.get((kid, algorithm))
    fitting = [key for (_, fits), key in keys.items() if fits == algorithm]
    return fitting[0] if len(fitting) == 1 else None


def read_keys(document: Mapping[str, Any], algorithms: Iterable[str]) -> Found:
    """Read the keys of a JWKS (RFC 7517) that are for one of the algorithms; all others are skipped.

    Shared secrets (`oct`) are skipped too: whoever can read the document could sign with them.
    """
    listed = document.get("keys")
    entries = cast("list[Any]", listed)[:MAX_KEYS] if isinstance(listed, list) else []
    found: dict[tuple[str, str], jwt.PyJWK] = {}
    for number, entry in enumerate(entries):
        fields = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
        for algorithm in algorithms:
            key = _parse_key(fields, algorithm)
            if key is not None:
                # Tokens without a key id find a key without an id.
                found.setdefault((str(fields.get("kid", f" {number}")), algorithm), key)
    return found


def _parse_key(fields: Mapping[str, Any], algorithm: str) -> jwt.PyJWK | None:
    kind, curve = KEY_TYPES[algorithm]
    fits = fields.get("kty") == kind and (curve is None or fields.get("crv") == curve)
    signs = fields.get("use", "sig") == "sig" and "verify" in fields.get("key_ops", ["verify"])
    if not fits or not signs or fields.get("alg", algorithm) != algorithm:
        return None
    try:
        key = jwt.PyJWK(dict(fields), algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    return None if kind == "RSA" and key.key.key_size < MIN_RSA_BITS else key


async def fetch_discovered_keys(issuer: str) -> Mapping[str, Any]:
    """Fetch the JWKS that an issuer's metadata names (OpenID Connect Discovery). Raises like `fetch_json`."""
    metadata = await fetch_json(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    if metadata.get("issuer") != issuer:
        raise ValueError("the metadata is of another issuer")
    url = metadata.get("jwks_uri")
    if not isinstance(url, str) or urlsplit(url).scheme not in ("https", urlsplit(issuer).scheme):
        raise ValueError("the metadata names no keys")
    return await fetch_json(url)
