"""Names for what people hand over, for error messages: short, and never with an address in memory."""

from __future__ import annotations

import functools
import inspect
from typing import Any, cast

LONGEST = 60
"""Characters of a value that are shown."""

LONGEST_LINE = 300
"""Characters of a docstring's first line that are told."""

PLAIN = (type(None), bool, int, float, complex, str, bytes)


def describe(thing: object) -> str:
    """Describes `thing` for an error: `'upper'` for a function or class, a plain value itself, else its class."""
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
    """The first line of the docstring of a function or class, or of the class of another object; None if it has none."""
    while isinstance(agent, functools.partial):
        agent = cast("functools.partial[Any]", agent).func
    # Not `inspect.getdoc`, which tells what the class above says of itself.
    text = agent.__doc__
    owner: object = getattr(agent, "__self__", None)
    if not text and owner is not None:  # a method: `run`, mostly
        text = type(owner).__doc__
    line = next(iter((text or "").strip().splitlines()), "").strip()
    # What a dataclass without a docstring gets is its signature.
    named = agent if isinstance(agent, type) else type(owner if owner is not None else agent)
    return line[:LONGEST_LINE] if line and not line.startswith(f"{named.__name__}(") else None
