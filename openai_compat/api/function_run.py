"""Functions that answer a request instead of an agent: each call has its own slot and task, as an agent's run has."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio

from ..agents.error_mapping import forbid_retry, to_public_error
from ..aio.background import Task, spawn
from ..errors import DeadlineExceeded, OpenAICompatError
from ..turns.slots import SlotRequest
from .exchange import Exchange
from .services import Services, logger

Returned = TypeVar("Returned")


async def run_function(
    services: Services,
    exchange: Exchange,
    *,
    model: str,
    kind: str,
    call: Callable[[], Awaitable[Returned]],
    answer: Callable[[Returned], Awaitable[None]],
) -> None:
    """Call a function for `model`, and answer with what it returns, or with its failure.

    Args:
        services: the server's services.
        exchange: the request.
        model: the model's own name, for which the slot is counted.
        kind: the name for such functions in messages.
        call: calls the function.
        answer: writes the answer.
    """
    async with await services.live.slots.take(SlotRequest(1, model, exchange.principal)) as seat:
        exchange.agent_started = True
        seat.borrow_slot()
        run = FunctionRun(call, kind, exchange.request_id, seat.return_slot)
        seat.close()  # the slot is free when the function has ended
        services.live.runner.running.add(run)
        try:
            await answer(await run.wait_for_result(services.settings.deadlines.request))
        except OpenAICompatError as error:
            await exchange.fail(forbid_retry(error))  # at once: stopping the function may take a while
        finally:
            services.live.runner.running.discard(run)
            await run.stop(services.settings.deadlines.grace)


class FunctionRun(Generic[Returned]):
    """One call of a function, in its own task.

    The call keeps its slot until it has really ended; a plain function may end long after its client has left.
    """

    def __init__(
        self, call: Callable[[], Awaitable[Returned]], kind: str, request_id: str, released: Callable[[], None]
    ) -> None:
        self._call = call
        self._kind = kind
        self._request_id = request_id
        self._results: list[Returned] = []
        self._error: OpenAICompatError | None = None
        self._settled = anyio.Event()
        self._stopping = False
        self._task: Task = spawn(self._run, kind, released)

    async def wait_for_result(self, seconds: float) -> Returned:
        """Wait for the function's result. Raises its failure, or DeadlineExceeded after `seconds`."""
        with anyio.move_on_after(seconds):
            await self._settled.wait()
        if self._error is not None:
            raise self._error
        if not self._results:
            raise DeadlineExceeded(f"The {self._kind} took too long and was stopped.", should_retry=False)
        return self._results[0]

    def interrupt(self, error: OpenAICompatError) -> None:
        """End the call with `error`, unless it has ended already."""
        if not self._settled.is_set():
            self._error = error
            self._settled.set()

    async def stop(self, grace: float) -> None:
        """Stop the function if it still runs; wait for its end, but no longer than `grace` seconds."""
        if self._task.done:
            return
        self._stopping = True
        self._task.cancel()
        with anyio.move_on_after(grace, shield=True):
            await self._task.wait()
            return
        text = "%s: the %s still runs %g s after it was told to stop; it keeps its slot until it ends"
        logger.warning(text, self._request_id, self._kind, grace, extra={"request_id": self._request_id})

    async def _run(self) -> None:
        try:
            self._results.append(await self._call())
        except anyio.get_cancelled_exc_class() as error:
            if not self._stopping:
                self._fail(error)
            if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
                raise  # trio's scope must see its own cancellation; asyncio's task ends here anyway
        except BaseException as error:  # SystemExit too, which would end the whole server
            self._fail(error)
        finally:
            self._settled.set()

    def _fail(self, error: BaseException) -> None:
        # A deadline or a shutdown may have come first.
        self._error = self._error or to_public_error(error)
        text = "%s: the %s failed"
        logger.error(text, self._request_id, self._kind, exc_info=error, extra={"request_id": self._request_id})
