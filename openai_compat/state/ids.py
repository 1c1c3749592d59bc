"""Ids of what is kept."""

from __future__ import annotations

import os


def new_id(prefix: str) -> str:
    """A new id nobody can guess: `prefix` and 32 hexadecimal digits."""
    return prefix + os.urandom(16).hex()
