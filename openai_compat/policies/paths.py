"""Checks of paths in settings, before routes are made of them."""

from __future__ import annotations

SPECIAL_CHARACTERS = frozenset("{}?#% ")


def check_path(name: str, path: str) -> None:
    """Raise ValueError for an invalid path, or for one that clients would have to escape."""
    if not path.startswith("/") or path.endswith("/"):
        raise ValueError(f"a {name} begins with a slash and does not end with one, not {path!r}")
    if not path.isprintable() or SPECIAL_CHARACTERS & set(path):
        raise ValueError(f"a {name} is written in plain characters, without any of {{}}?#% or spaces, not {path!r}")
