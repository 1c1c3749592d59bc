"""Common handling of requests that run a turn: parse the body, run once, stream errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeAlias, TypeVar

from ...aio.background import drop_tracebacks
from ...aio.off_loop import run_off_loop
from ...errors import OpenAICompatError
from ...wire.chat_rest.forms import TurnForm
from ...wire.chat_rest.parse import parse_body, parse_query
from ...wire.chat_rest.types import CamelModel
from ...wire.errors import error_frame
from ...wire.json import is_quick
from ..delivery import StreamedAnswer, WholeAnswer
from ..detach import run_once
from ..exchange import Exchange
from ..services import Services, Settings
from ..stream_recovery import recover_stream, recoverable_stream
from .run import PreparedTurn, RestTurn

Model = TypeVar("Model", bound=CamelModel)
ErrorFrame: TypeAlias = Callable[[OpenAICompatError], bytes]


async def read_request(settings: Settings, exchange: Exchange, model: type[Model]) -> tuple[Model, bytes]:
    """The validated body, and its bytes. Raises InvalidRequest."""
    body = await exchange.read_body(settings.limits, settings.deadlines)
    return await run_off_loop(parse_body, model, body, long=not is_quick(body)), body


def query(exchange: Exchange) -> dict[str, str]:
    """The parameters of the query string."""
    return parse_query(exchange.request.query)


async def handle_turn_request(
    services: Services, exchange: Exchange, model: type[Model], work: Callable[[Model], Awaitable[None]]
) -> None:
    """Call `work` with the parsed body, or resume a stream that was lost."""
    # A client that lost its stream repeats the request with the id of the last event that it has read: nothing is run.
    last_event = exchange.request.header(b"last-event-id")
    if last_event is not None:
        await recover_stream(services, exchange, last_event)
        return
    asked, body = await read_request(services.settings, exchange, model)

    async def once() -> None:
        # Within `run_once`: a replayed answer does not count towards the rate limit.
        await services.check_rate(exchange)
        await work(asked)

    await run_once(services, exchange, body, once)


async def run_and_answer(
    services: Services,
    exchange: Exchange,
    work: PreparedTurn,
    form: TurnForm,
    *,
    stream: bool,
    failed: ErrorFrame = error_frame,
) -> None:
    """Run a turn, and answer with its result."""
    if stream:
        work = replace(work, request=replace(work.request, stream=True))
    # Under this policy a turn ends with its client, so there is no stream to resume and no log to keep.
    if not stream or services.settings.disconnect.then == "cancel":
        delivery = exchange if stream else WholeAnswer(exchange)
        await services.live.runner.run(RestTurn(services.state.store, exchange, work, form, delivery))
        return
    async with recoverable_stream(services, exchange, work.id, work.draft, failed) as log:
        await services.live.runner.run(
            RestTurn(services.state.store, exchange, work, form, StreamedAnswer(exchange, log), log=log)
        )


@asynccontextmanager
async def stream_errors_as(exchange: Exchange, failed: ErrorFrame) -> AsyncGenerator[None]:
    """End a stream that has begun with the frame that `failed` makes of an error."""
    try:
        yield
    except OpenAICompatError as error:
        # Nothing has been sent, so the error can have its own status.
        if not exchange.streaming:
            raise
        exchange.has_failed(error)
        drop_tracebacks(error)
        await exchange.end(failed(error))
