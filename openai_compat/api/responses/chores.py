"""Housekeeping requests of chat programs over the Responses API: answered without an agent, never stored."""

from __future__ import annotations

from dataclasses import replace

from ...events import Finished
from ...wire.json import DONE, dumps
from ...wire.reducer import Item
from ...wire.responses.parse.request import ParsedResponse
from ...wire.responses.serialize.stream import ResponseStream
from ..delivery import StreamedAnswer
from ..exchange import Exchange
from ..services import Services
from .prepare import ResponseIds, response_form


async def answer_chore(
    services: Services, exchange: Exchange, parsed: ParsedResponse, ids: ResponseIds, text: str
) -> None:
    """Answer a housekeeping request of a chat program."""
    exchange.note = "housekeeping"
    stream, frames = chore_response(services, parsed, ids, text)
    if parsed.stream:
        await StreamedAnswer(exchange, end_mark=DONE).end(frames)
    else:
        await exchange.answer(200, dumps(stream.response()))


def chore_response(
    services: Services, parsed: ParsedResponse, ids: ResponseIds, text: str
) -> tuple[ResponseStream, bytes]:
    """The response to a housekeeping request, and its events. It belongs to no conversation, whatever the request names."""
    # A stored title could be continued, and would appear among the user's own conversations.
    echo = {**parsed.echo, "store": False}
    echo.pop("conversation", None)
    stream = ResponseStream(response_form(services, parsed.request.model, replace(parsed, echo=echo), ids))
    items: list[Item] = [*([text] if text else []), Finished("stop")]
    return stream, stream.begin() + stream.feed(items) + stream.finish()
