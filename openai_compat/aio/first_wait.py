"""Work that has nobody watch over it as long as it does not wait: most answers come without a wait."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any


@types.coroutine
def told_of_wait(work: Coroutine[Any, Any, None], waits: Callable[[], object]) -> Generator[Any, Any, None]:
    """Do `work`, in the same task, and call `waits` before it is left for the first time. Raises what `work` raises."""
    try:
        waits_for = work.send(None)
    except StopIteration:
        return
    waits()
    yield from rest_of(work, waits_for)


def rest_of(work: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """Go on with `work`, whose last step was made by hand, and waits for `waits_for`."""
    try:
        while True:
            try:
                result = yield waits_for
            except BaseException as error:
                waits_for = work.throw(error)
                continue
            if result is None:  # as always on asyncio: from here on no step is made by hand
                return (yield from work.__await__())
            waits_for = work.send(result)
    except StopIteration:
        return
