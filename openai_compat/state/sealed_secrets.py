"""Secrets in the store: sealed with AES-GCM; the key is not in the store but in the environment."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from collections.abc import Sequence

from ..package import needs

VARIABLE = "OPENAI_COMPAT_SECRET_KEY"
"""The environment variable with the key: 32 random bytes as base64. Of several keys, separated by spaces, the first seals."""

KEY_SIZE = 32
"""Bytes of a key."""

NONCE_SIZE = 12
"""Bytes of a nonce, which is random for each secret."""


class CannotUnseal(Exception):
    """None of the keys has sealed this secret, or it was modified."""


class Seal:
    """Seals and unseals secrets.

    Raises ValueError for an invalid key, without quoting it, and MissingExtra without `cryptography`.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        with needs(f"{VARIABLE}"):
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  (few have secrets to keep)

        self._ciphers = [AESGCM(key) for key in keys]

    @classmethod
    def from_environment(cls) -> Seal | None:
        """The seal with the environment's keys; None if the variable is not set."""
        given = os.environ.get(VARIABLE, "").split()
        return cls([_parse_key(text) for text in given]) if given else None

    def seal(self, secret: str, about: str) -> str:
        """Seal a secret, bound to `about`: copied to another row, it cannot be unsealed."""
        nonce = secrets.token_bytes(NONCE_SIZE)
        return base64.b64encode(nonce + self._ciphers[0].encrypt(nonce, secret.encode(), about.encode())).decode()

    def unseal(self, sealed: str, about: str) -> str:
        """Unseal the output of `seal`. Raises CannotUnseal."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        data = base64.b64decode(sealed)
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(data[:NONCE_SIZE], data[NONCE_SIZE:], about.encode()).decode()
            except InvalidTag:
                continue
        raise CannotUnseal


def _parse_key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, altchars=b"-_" if set("-_") & set(text) else None, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_SIZE:
        raise ValueError(
            f"{VARIABLE} has to be {KEY_SIZE} random bytes as base64, as `openssl rand -base64 32` makes them"
        )
    return key
