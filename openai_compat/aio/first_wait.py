"""Work that has nobody watch over it as long as it does not wait: most answers come without a wait."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeAlias, cast

Steps: TypeAlias = Generator[Any, Any, None]
"""What `types.coroutine` lets `yield from` take a coroutine for."""


async def told_of_wait(work: Coroutine[Any, Any, None], waits: Callable[[], object]) -> None:
    """Do `work`, in the same task, and call `waits` before it is left for the first time. Raises what `work` raises."""
    try:
        waits_for = work.send(None)
    except StopIteration:
        return
    waits()
    await rest_of(work, waits_for)


@types.coroutine
def rest_of(work: Coroutine[Any, Any, None], waits_for: Any) -> Steps:
    """Go on with `work`, whose last step was made by hand, and waits for `waits_for`."""
    try:
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
