"""`/v1/responses`: create, retrieve, follow, cancel and delete responses, and list their input items.

Source: OpenAI's OpenAPI document. Stream events: `wire/responses/serialize/stream`.
"""

from __future__ import annotations

import time
from dataclasses import replace
from urllib.parse import parse_qs

from ...aio.background import spawn
from ...aio.off_loop import run_off_loop
from ...errors import InvalidRequest
from ...policies.disconnect import Disconnect
from ...policies.housekeeping import task_of
from ...state.event_log import EventLogWriter
from ...stores.port import Key
from ...turns.slots import Seat
from ...wire.json import DONE, KEEP_ALIVE, dumps, from_stored_json, is_quick
from ...wire.responses.parse.request import ParsedResponse, parse_response
from ..access_log import log_access
from ..delivery import NoAnswer, StreamedAnswer
from ..detach import run_once
from ..exchange import Exchange
from ..follow import cancel_response, find_response, snapshot, stream_events, write_frames
from ..paging import list_page
from ..services import Services, logger
from .chores import answer_chore
from .prepare import PreparedResponse, ResponseIds, prepare_response
from .run import run_response

CANCEL = Disconnect("cancel")
"""The policy of background responses: they are answered at once, and go on without their clients anyway."""


async def create(services: Services, exchange: Exchange) -> None:
    """Run an agent and answer with a Response: streamed, whole, or at once if it runs in the background."""
    body = await exchange.read_body(services.settings.limits, services.settings.deadlines)
    ids = ResponseIds()
    caller = services.settings.caller(exchange.principal, exchange.request)
    if is_quick(body):
        parsed = parse_response(body, caller, ids)
    else:
        parsed = await run_off_loop(lambda: parse_response(body, caller, ids, long=True))
    housekeeping = services.settings.housekeeping
    if housekeeping is not None and parsed.generate and not parsed.background:
        task = task_of(exchange.request, parsed.request)
        if task is not None:
            text = await housekeeping.answer(task, replace(parsed.request, is_kept=False))
            await answer_chore(services, exchange, parsed, ids, text)
            return
    if parsed.background:
        if not exchange.request.lasting:
            text = (
                "Responses cannot run in the background here: no event loop is left once a request is answered (WSGI)."
            )
            raise InvalidRequest(text, param="background", code="unsupported_parameter")
        await run_once(services, exchange, body, lambda: _start_in_background(services, exchange, parsed, ids), CANCEL)
    elif services.needs_run_once(exchange):
        await run_once(services, exchange, body, lambda: _run_in_foreground(services, exchange, parsed, ids))
    else:
        await _run_in_foreground(services, exchange, parsed, ids)


async def _run_in_foreground(services: Services, exchange: Exchange, parsed: ParsedResponse, ids: ResponseIds) -> None:
    if services.live.rates is not None:
        await services.check_rate(exchange)
    work = await prepare_response(services, exchange, parsed, ids=ids, http=exchange.request)
    seat = await take_seat(services, work, known=parsed.store and services.settings.disconnect.then != "cancel")
    if parsed.stream:
        await run_response(services, work, StreamedAnswer(exchange, work.log, DONE), seat)
        return
    # Nobody follows a whole answer that has no log, so its events would be written for nothing.
    if work.log is None:
        work.stream.write_no_events()
    delivery = NoAnswer(exchange, work.log)
    await run_response(services, work, delivery, seat)
    if delivery.error is not None:
        raise delivery.error
    await exchange.answer(200, dumps(work.last_stored or work.stream.response()))


async def take_seat(services: Services, work: PreparedResponse, *, known: bool) -> Seat:
    """The response's slot, for `run_response` to close. Raises OpenAICompatError, and then holds nothing.

    If `known`, the response is in the store before its agent is started, so that others can find, follow and cancel it.
    """
    try:
        seat = await services.live.runner.take_seat(work)
        try:
            if known:
                await _begin_log(services, work)
        except BaseException:
            seat.close()
            raise
    except BaseException:
        if work.draft is not None:
            await work.draft.close()
        raise
    return seat


async def _begin_log(services: Services, work: PreparedResponse) -> None:
    stream = work.stream
    log = EventLogWriter(
        services.state.logs, work.key, work.token, work.requester.request_id, sequence=lambda: stream.sequence
    )
    if work.parsed.background:
        log.record(stream.begin(queued=True))
    await log.begin(await run_off_loop(work.to_stored_response) if work.parsed.long else work.to_stored_response())
    work.log = log


async def _start_in_background(
    services: Services, exchange: Exchange, parsed: ParsedResponse, ids: ResponseIds
) -> None:
    if services.live.rates is not None:
        await services.check_rate(exchange)
    work = await prepare_response(services, exchange, parsed, ids=ids, http=exchange.request)
    seat = await take_seat(services, work, known=True)
    answer = dumps(work.stream.response())
    delivery = NoAnswer(exchange, work.log)
    # In its own task: the response goes on even if its client leaves at the first event.
    spawn(
        lambda: _run_in_background(services, work, delivery, seat, exchange.request.path),
        f"response {work.id}",
        lambda: None,
    )
    if not parsed.stream:
        await exchange.answer(200, answer)
    elif work.log is not None:
        await write_frames(exchange, stream_events(services, work.key, -1, work.log.log), KEEP_ALIVE)
        await exchange.end(DONE)


async def _run_in_background(
    services: Services, work: PreparedResponse, delivery: NoAnswer, seat: Seat, path: str
) -> None:
    requester, began = work.requester, time.monotonic()
    try:
        await run_response(services, work, delivery, seat)
    except Exception as error:
        logger.error("%s: a background response failed", requester.request_id, exc_info=error)
    finally:
        status = 200 if delivery.error is None else delivery.error.status
        note = "" if delivery.error is None else delivery.error.code or delivery.error.type
        log_access(
            requester.request_id,
            "background",
            path,
            status,
            began=began,
            note=note,
            principal=requester.principal,
            turn=requester.turn,
        )


async def retrieve(services: Services, exchange: Exchange, identifier: str) -> None:
    """A response, or its events with `stream=true`."""
    key, query = Key(exchange.principal.id, identifier), parse_qs(exchange.request.query)
    # OpenAI's SDKs write a boolean into a query this way.
    if query.get("stream", ["false"])[-1] == "true":
        after = _parse_starting_after(query)
        await find_response(services, key)
        await write_frames(exchange, stream_events(services, key, after), KEEP_ALIVE)
        await exchange.end(DONE)  # Open Responses requires it, and OpenAI's SDKs skip it
    else:
        found = await find_response(services, key)
        await exchange.answer(200, dumps(snapshot(services, found, key)))


async def list_input_items(services: Services, exchange: Exchange, identifier: str) -> None:
    """A page of the items that a response was made from."""
    found = await find_response(services, Key(exchange.principal.id, identifier))
    items = [from_stored_json(item.body) for item in found.input]
    await exchange.answer(200, dumps(list_page(items, exchange.request.query, "desc")))


def _parse_starting_after(query: dict[str, list[str]]) -> int:
    sent = query.get("starting_after", ["-1"])[-1]
    if not sent.isascii() or not (sent.isdigit() or sent == "-1") or len(sent) > 15:
        text = "'starting_after' is the number of an event."
        raise InvalidRequest(text, param="starting_after", code="invalid_value")
    return int(sent)


async def delete(services: Services, exchange: Exchange, identifier: str) -> None:
    """Delete a response. One that still runs in the background is stopped first."""
    key = Key(exchange.principal.id, identifier)
    found = await find_response(services, key)
    # Otherwise its agent would go on for nobody, and its commit would fail.
    if found.running and found.background:
        await cancel_response(services, key)
    await services.state.store.delete_response(key)
    services.state.cleanup.schedule()
    await exchange.answer(200, dumps({"id": identifier, "object": "response", "deleted": True}))


async def stop(services: Services, exchange: Exchange, identifier: str) -> None:
    """Cancel a response that runs in the background."""
    found = await cancel_response(services, Key(exchange.principal.id, identifier))
    await exchange.answer(200, dumps(from_stored_json(found.body)))
