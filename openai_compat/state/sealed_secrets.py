"""Secrets that are kept in the store: sealed by AES-GCM with a key that is not there, but in the environment."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from collections.abc import Sequence

from ..package import needs

VARIABLE = "OPENAI_COMPAT_SECRET_KEY"
"""The environment variable with the key: 32 random bytes as base64. Of several, with spaces between, the first one seals."""

SIZE = 32
"""Bytes of a key."""

NONCE = 12
"""Bytes of a nonce, which is random for each secret."""


class CannotUnseal(Exception):
    """None of the keys has sealed this secret, or it was changed."""


class Seal:
    """Seals secrets, and opens them again.

    Raises ValueError for a key that is none, which does not quote it, and MissingExtra without `cryptography`.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        with needs(f"{VARIABLE}"):
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  (few have secrets to keep)

        self._ciphers = [AESGCM(key) for key in keys]

    @classmethod
    def from_environment(cls) -> Seal | None:
        """The seal of the environment's key; None if there is none."""
        given = os.environ.get(VARIABLE, "").split()
        return cls([_key(text) for text in given]) if given else None

    def seal(self, secret: str, about: str) -> str:
        """Seal a secret. It can only be opened for what it is `about`: a row that is put elsewhere is of no use."""
        nonce = secrets.token_bytes(NONCE)
        return base64.b64encode(nonce + self._ciphers[0].encrypt(nonce, secret.encode(), about.encode())).decode()

    def unseal(self, sealed: str, about: str) -> str:
        """Open what `seal` has made. Raises CannotUnseal."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        data = base64.b64decode(sealed)
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(data[:NONCE], data[NONCE:], about.encode()).decode()
            except InvalidTag:
                continue
        raise CannotUnseal


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, altchars=b"-_" if set("-_") & set(text) else None, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != SIZE:
        raise ValueError(f"{VARIABLE} has to be {SIZE} random bytes as base64, as `openssl rand -base64 32` makes them")
    return key
