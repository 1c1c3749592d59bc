"""Random ids of stored objects."""

from __future__ import annotations

import os

BYTES = 16
"""Number of random bytes in an id."""

AHEAD = 64
"""Number of ids whose random bytes are fetched together: the system call takes four fifths of the time of an id."""

_ready: list[str] = []


def new_id(prefix: str) -> str:
    """A new unguessable id: `prefix` and 32 hexadecimal digits."""
    try:
        return prefix + _ready.pop()  # atomic, so that no other thread gets the same one
    except IndexError:
        digits = os.urandom(BYTES * AHEAD).hex()
        _ready.extend([digits[at : at + 2 * BYTES] for at in range(2 * BYTES, len(digits), 2 * BYTES)])
        return prefix + digits[: 2 * BYTES]


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_ready.clear)  # or parent and child would use the same ids
