"""The deadline for what comes before an agent: it waits for the store, which may not answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio

from ..aio.background import Failure, spawn
from ..errors import Unavailable
from ..state.degraded import LateWork
from ..stores.port import Store


class Beginning(Protocol):
    """A request, over HTTP or a WebSocket, whose agent is not started yet.

    Attributes:
        on_begun: called once an agent is started, or has been before.
    """

    on_begun: Callable[[], object] | None


async def begun_in_time(
    request: Beginning, store: Store, late: LateWork, seconds: float, work: Callable[[], Awaitable[None]]
) -> None:
    """Do `work`, whose agent has to be started within so many seconds. Raises Unavailable if it was not.

    What comes before waits for the store, again and again. Where the time is over, the work is cancelled, but its
    client does not wait for its end: what it has begun in the store has to come to an end first, and is given back then.
    """
    if not store.shared:  # it is in this process, and answers at once
        await work()
        return
    scope, failure, begun = anyio.CancelScope(), Failure(), anyio.Event()

    async def body() -> None:
        try:
            with scope:
                await work()
        except Exception as error:
            failure.keep(error)

    request.on_begun = begun.set
    task = spawn(body, "request", begun.set)
    try:
        with anyio.move_on_after(seconds):
            await begun.wait()
        if begun.is_set():
            await task.wait()
    except BaseException:
        scope.cancel()
        with anyio.CancelScope(shield=True):
            await task.wait()
        raise
    finally:
        request.on_begun = None
    if not task.done:
        scope.cancel()
        late.add(task)
        raise Unavailable("The request could not be begun in time, and no agent was started.")
    failure.raise_if_any()
