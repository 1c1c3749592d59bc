"""The error for a target that cannot be loaded. Imports nothing, because `--help` needs it too."""

from __future__ import annotations


class CannotLoad(Exception):
    """A target has no agent. The message says in one line what it has instead."""
