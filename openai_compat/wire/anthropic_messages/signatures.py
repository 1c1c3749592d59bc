"""The signatures of reasoning in the form that clients store: opaque texts that only this server reads.

A model that signs its reasoning accepts only its own signatures, so each text also holds the model's name.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, cast

from pydantic_core import from_json

from ..json import dumps


def seal_signature(model: str, signature: str | None) -> str:
    """Return a signature as opaque text for clients; unsigned reasoning gets a text without a signature."""
    return urlsafe_b64encode(dumps([model, signature])).decode()


def open_seal(model: str, seal: str) -> str | None:
    """Return the signature in a text from `seal_signature`; None if the text is invalid or from another model."""
    try:
        decoded: Any = from_json(urlsafe_b64decode(seal.encode()))
    except ValueError:
        return None
    parts = cast("list[Any]", decoded) if isinstance(decoded, list) else []
    if len(parts) != 2 or parts[0] != model or not isinstance(parts[1], str):
        return None
    return parts[1]
