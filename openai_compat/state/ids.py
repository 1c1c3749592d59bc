"""Ids of what is kept."""

from __future__ import annotations

import secrets


def new_id(prefix: str) -> str:
    """A new id nobody can guess: `prefix` and 32 hexadecimal digits."""
    return prefix + secrets.token_hex(16)
