"""Describes user objects in error messages: short, and never with a memory address."""

from __future__ import annotations

import functools
import inspect
from typing import Any, cast

LONGEST = 60
"""Maximum number of characters shown of a value."""

LONGEST_LINE = 300
"""Maximum length of a description taken from a docstring."""

PLAIN = (type(None), bool, int, float, complex, str, bytes)


def describe(thing: object) -> str:
    """Describe `thing` for an error: the quoted name of a function or class, a plain value as `repr`, or `a ClassName`."""
    while isinstance(thing, functools.partial):
        thing = cast("functools.partial[Any]", thing).func
    if inspect.isroutine(thing) or isinstance(thing, type):
        return f"'{getattr(thing, '__name__', type(thing).__name__)}'"
    if type(thing) in PLAIN:
        shown = repr(cast("Any", thing)[:LONGEST] if isinstance(thing, str | bytes) else thing)
        return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…"
    name = type(thing).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def first_line(agent: object) -> str | None:
    """The first docstring line of a function or class, or of any other object's class; None without a docstring."""
    while isinstance(agent, functools.partial):
        agent = cast("functools.partial[Any]", agent).func
    # Not `inspect.getdoc`, which inherits the docstring of a base class.
    text = agent.__doc__
    owner: object = getattr(agent, "__self__", None)
    if not text and owner is not None:  # a method: `run`, mostly
        text = type(owner).__doc__
    line = next(iter((text or "").strip().splitlines()), "").strip()
    # A dataclass without a docstring gets its signature as docstring.
    named = agent if isinstance(agent, type) else type(owner if owner is not None else agent)
    return line[:LONGEST_LINE] if line and not line.startswith(f"{named.__name__}(") else None
