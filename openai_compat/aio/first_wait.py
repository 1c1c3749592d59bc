"""Work that has nobody watch over it as long as it does not wait: most answers come without a wait."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeAlias, cast

Steps: TypeAlias = Generator[Any, Any, None]
"""What `types.coroutine` lets `yield from` take a coroutine for."""


@types.coroutine
def told_of_wait(work: Coroutine[Any, Any, None], waits: Callable[[], object] | None) -> Steps:
    """Do `work`, in the same task, and call `waits` before it is left for the first time. Raises what `work` raises.

    Without `waits`, it is left once more then, with nothing to wait for: for who has made the first step by hand.
    """
    # One function for both, with all of it: each frame is entered for every piece of a stream, and kept as long as it is.
    try:
        waits_for = work.send(None)
        if waits is not None:
            waits()
        else:
            try:
                yield
            except BaseException as error:  # cancelled before the task's own first step
                waits_for = work.throw(error)
        while True:
            try:
                result = yield waits_for
            except BaseException as error:
                waits_for = work.throw(error)
                continue
            if result is None:  # as always on asyncio: from here on no step is made by hand
                yield from cast("Steps", work)
                return
            waits_for = work.send(result)
    except StopIteration:
        return
