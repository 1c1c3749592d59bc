"""The signatures of thinking, as clients keep them: opaque texts, which only this server reads.

A model that signs what it thinks takes only its own signatures back, so each is told with the model that it is of.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, cast

from pydantic_core import from_json

from ..json import dumps


def sealed(model: str, signature: str | None) -> str:
    """A signature for clients; of thinking that is not signed, one that says nothing."""
    return urlsafe_b64encode(dumps([model, signature])).decode()


def opened(model: str, seal: str) -> str | None:
    """The signature that `sealed` has put into a text; None if it is no such text, or of another model."""
    try:
        told: Any = from_json(urlsafe_b64decode(seal.encode()))
    except ValueError:
        return None
    parts = cast("list[Any]", told) if isinstance(told, list) else []
    if len(parts) != 2 or parts[0] != model or not isinstance(parts[1], str):
        return None
    return parts[1]
