"""What a command sees of the server's environment: nothing that is not on a list."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

BASICS = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "TERM")
"""Variables that every command gets. The server's keys and database URLs are not among them."""


def allowed_environment(names: Iterable[str], values: Mapping[str, str]) -> dict[str, str]:
    """The server's variables whose names are in BASICS or `names` (`*` matches any characters), and `values`."""
    patterns = (*BASICS, *names)
    passed = {name: value for name, value in os.environ.items() if any([fnmatchcase(name, p) for p in patterns])}
    return passed | dict(values)
