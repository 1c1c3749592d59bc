"""Names for what people hand over, for error messages: short, and never with an address in memory."""

from __future__ import annotations

import functools
import inspect
from typing import Any, cast

LONGEST = 60
"""Characters of a value that are shown."""

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
