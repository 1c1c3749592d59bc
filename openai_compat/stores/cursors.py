"""Cursors on deleted list entries, so that a page can still begin after one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .records import Order

BEGINNING = ""
"""The name before the first one."""


def name_before(name: str, names: Iterable[str]) -> str:
    """The name before this one."""
    before = BEGINNING
    for other in names:
        if other == name:
            break
        before = other
    return before


def names_after(
    after: str | None, names: Sequence[str], order: Order, gone: Callable[[str], str | None]
) -> Sequence[str] | None:
    """The entries of `names`, given oldest first, that follow `after` in this order; None if `after` never existed.

    `gone` maps a deleted name to the name before it, or to None if that name never existed.
    """
    if after is None:
        return names if order == "asc" else names[::-1]
    if after == BEGINNING:  # an empty cursor names nothing
        return None
    cursor, known = after, set(names)
    while cursor not in known and cursor != BEGINNING:  # the one before may have been deleted too
        before = gone(cursor)
        if before is None:
            return None
        cursor = before
    passed = 0 if cursor == BEGINNING else names.index(cursor) + 1
    return names[passed:] if order == "asc" else names[: passed - (cursor == after)][::-1]
