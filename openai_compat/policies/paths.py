"""Checks the paths that settings name, before a route is made of one."""

from __future__ import annotations

SPECIAL = frozenset("{}?#% ")


def check_path(name: str, path: str) -> None:
    """Raise ValueError for a path that is no path, or that clients would have to write otherwise."""
    if not path.startswith("/") or path.endswith("/"):
        raise ValueError(f"a {name} begins with a slash and does not end with one, not {path!r}")
    if not path.isprintable() or SPECIAL & set(path):
        raise ValueError(f"a {name} is written in plain characters, without any of {{}}?#% or spaces, not {path!r}")
