"""Where things stood that are gone from a list, so that a page can still begin after one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .port import Order

BEGINNING = ""
"""What stood before the first one."""


def one_before(name: str, names: Iterable[str]) -> str:
    """The name that stands before this one."""
    before = BEGINNING
    for other in names:
        if other == name:
            break
        before = other
    return before


def names_after(
    after: str | None, names: Sequence[str], order: Order, gone: Callable[[str], str | None]
) -> Sequence[str] | None:
    """Those of `names`, the oldest first, that come after one of them in this order, or after one that is gone.

    `gone` tells which one stood before it when it went; None, for it and as the result, is for what never was there.
    """
    if after is None:
        return names if order == "asc" else names[::-1]
    if after == BEGINNING:
        return None
    here, known = after, set(names)
    while here not in known and here != BEGINNING:
        before = gone(here)
        if before is None:
            return None
        here = before
    passed = 0 if here == BEGINNING else names.index(here) + 1
    return names[passed:] if order == "asc" else names[: passed - (here == after)][::-1]
