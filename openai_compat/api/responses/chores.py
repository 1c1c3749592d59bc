"""Housekeeping requests of chat programs over the Responses API: answered without an agent, never stored."""

from __future__ import annotations

from dataclasses import replace

from ...events import Finished
from ...http import HttpRequest
from ...policies.housekeeping import task_of
from ...reducer import Item
from ...wire.json import DONE, dumps
from ...wire.responses.parse.request import ParsedResponse
from ...wire.responses.serialize.stream import ResponseStream
from ..delivery import StreamedAnswer
from ..exchange import Exchange
from ..services import Services
from .ids import ResponseIds
from .prepare import response_form


async def answer_chore(services: Services, exchange: Exchange, parsed: ParsedResponse, ids: ResponseIds) -> bool:
    """Answer a request that a chat program makes for itself; False if it is none."""
    found = await chore(services, exchange.request, parsed, ids)
    if found is None:
        return False
    exchange.note = "housekeeping"
    stream, frames = found
    if parsed.stream:
        await StreamedAnswer(exchange, end_mark=DONE).end(frames)
    else:
        await exchange.answer(200, dumps(stream.response()))
    return True


async def chore(
    services: Services, http: HttpRequest, parsed: ParsedResponse, ids: ResponseIds
) -> tuple[ResponseStream, bytes] | None:
    """The response and its events; None if the request is no chore. It belongs to no conversation, whatever it names."""
    if services.settings.housekeeping is None or parsed.background or not parsed.generate:
        return None
    task = task_of(http, parsed.request)
    if task is None:
        return None
    text = await services.settings.housekeeping.answer(task, parsed.request)
    # A title that was stored could be continued, and would be in the lists of what the user has said.
    echo = {**parsed.echo, "store": False}
    echo.pop("conversation", None)
    stream = ResponseStream(response_form(services, parsed.request.model, replace(parsed, echo=echo), ids))
    said: list[Item] = [*([text] if text else []), Finished("stop")]
    return stream, stream.begin() + stream.feed(said) + stream.finish()
