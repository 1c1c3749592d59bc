"""What is wrong with a target of the command line. Nothing is imported for it: the program's help needs it, too."""

from __future__ import annotations


class CannotLoad(Exception):
    """There is no agent at a target. The message says in a line what there is instead."""
