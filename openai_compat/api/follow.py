"""Responses from outside their turn: follow them, cancel them, and fail those whose process has died."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import anyio

from ..errors import Conflict, InvalidRequest, NotFound, Unavailable
from ..state.event_log import EventLog, frames_after
from ..stores.records import Events, Key, StoredResponse
from ..wire.errors import error_frame
from ..wire.json import from_stored_json, stored_json
from ..wire.responses.serialize.response import lost_response
from .exchange import Exchange
from .services import Services, logger

# Not LISTEN and NOTIFY: NOTIFY takes a lock that all commits of a database share, and LISTEN needs its own connection,
# which poolers do not give.
POLL_INTERVAL = 0.1
"""Seconds between two polls of the log of a response that another process makes."""

POLLS_PER_CHECK = 10
"""Polls after which that process is checked for being alive."""

CHAT_PREFIX = "chatcmpl-"
"""Prefix of the ids of chat streams: their logs are stored beside those of responses."""

LOST_BATCH = 100
"""Responses of dead processes that are failed in one batch."""

CANCEL_TIMEOUT = 3.0
"""Seconds that the process of a response has to learn that the response is cancelled."""


async def find_response(services: Services, key: Key) -> StoredResponse:
    """A response, marked as failed if its process has died. Raises NotFound."""
    found = await services.state.store.response(key)
    if found is None:
        raise NotFound(f"Response with id '{key.id[:64]}' not found.", code="response_not_found", param="response_id")
    if found.running and not found.alive:
        await _mark_lost(services, key, found)
        found = await services.state.store.response(key) or found
    return found


async def _mark_lost(services: Services, key: Key, found: StoredResponse) -> None:
    """Mark a response as failed, in its log too. Does nothing if another process was first."""
    # The agent may have acted before its process died: clients must not run it again on their own.
    error = Unavailable("The process that ran this response has died.", code="worker_lost", should_retry=False)
    last = -1
    # The error gets the next number, so that a client that has read all events still gets an end.
    for batch in await services.state.store.events(key, -1):
        last = batch.last
    if key.id.startswith(CHAT_PREFIX):
        body: dict[str, Any] = {}
        sequence = last + 1
        frames = b"id: %b:%d\n" % (key.id.encode(), sequence) + error_frame(error)
    else:
        body, frames, sequence = lost_response(from_stored_json(found.body), error, last)
    failed = replace(found, status="failed", body=stored_json(body))
    events = Events(last + 1, sequence, frames) if last >= 0 or found.background else None
    outbox = services.state.outbox
    notices = outbox.notices("response.failed", key.id, key.principal) if found.background else ()
    if await services.state.store.end_response(key.principal, failed, events, notices):
        outbox.wake()


async def fail_lost_responses(services: Services) -> None:
    """Fail background responses whose process has died, if webhooks report outcomes."""
    store = services.state.store
    while store.shared and services.state.outbox.is_used:
        # Random, so that processes that were started together do not poll together.
        await anyio.sleep(services.state.leases.seconds * random.uniform(0.25, 0.5))  # noqa: S311  (no secret)
        try:
            for key in await store.lost_responses(LOST_BATCH):
                await find_response(services, key)
        except NotFound:  # somebody has deleted it just now
            pass
        except Unavailable as error:
            logger.info("responses of processes that have died: %s", error.code)
        except Exception as error:
            logger.error("responses of processes that have died", exc_info=error)


async def stream_events(services: Services, key: Key, after: int, here: EventLog | None = None) -> AsyncIterator[bytes]:
    """The frames of a response after number `after`, as they come, until its outcome; b"" is a heartbeat during silence.

    `here` is its log, if known.

    Raises InvalidRequest if there is no log, if it does not reach back that far, or if it ends before that number: a log
    that was cut off when its process died may lack events that a client has seen.
    """
    here = here or services.state.logs.live.get(key)
    if here is not None:
        async for frames, last in here.follow(after, services.settings.deadlines.heartbeat):
            yield frames
            after = last
        if after > here.last:
            raise _unknown_event(after)
        if after == here.last:
            return
    # The store may have frames that this process no longer keeps, or never had.
    async for frames in _follow_elsewhere(services, key, after):
        yield frames


async def _follow_elsewhere(services: Services, key: Key, after: int) -> AsyncIterator[bytes]:
    polls, last_sent = 0, anyio.current_time()
    found = await find_response(services, key)
    while True:
        ended = not found.running
        batches = await services.state.store.events(key, after)
        if batches and batches[0].first > after + 1:
            text = f"Events before number {batches[0].first} are not kept any more. Retrieve the response without 'stream'."
            raise InvalidRequest(text, param="starting_after", code="events_not_kept")
        if not batches and ended:
            await _check_log(services, key, after)
        for batch in batches:
            yield frames_after(batch, after)
            after, last_sent = batch.last, anyio.current_time()
        # The response was over before its events were read, so these were the last.
        if ended:
            return
        if anyio.current_time() - last_sent >= services.settings.deadlines.heartbeat:
            yield b""
            last_sent = anyio.current_time()
        polls += 1
        await anyio.sleep(POLL_INTERVAL)
        # The outcome comes with the last events; if no events come, the process may have died.
        if not polls % POLLS_PER_CHECK or batches:
            found = await find_response(services, key)


async def write_frames(exchange: Exchange, followed: AsyncIterator[bytes], comment: bytes) -> None:
    """Stream the followed frames, and a comment during silence. Does not end the stream."""
    # The head is sent with the first frames: until then, an error can have its own status.
    async for frames in followed:
        await exchange.write(frames or comment)


async def _check_log(services: Services, key: Key, after: int) -> None:
    """Raise InvalidRequest if there was never a log, if it is gone, or if it does not contain number `after`."""
    if await services.state.store.events(key, after - 1):
        return
    if await services.state.store.events(key, -1):
        raise _unknown_event(after)
    text = "The events of this response are not kept. They are for background responses, and for a time only."
    raise InvalidRequest(text, param="stream", code="events_not_kept")


def _unknown_event(after: int) -> InvalidRequest:
    text = f"This response has come to its end and has no event number {after}. Retrieve the response without 'stream'."
    return InvalidRequest(text, param="starting_after", code="events_not_kept")


def snapshot(services: Services, found: StoredResponse, key: Key) -> dict[str, Any]:
    """The Response object: as it stands now if it runs in this process, otherwise as stored, with its current status."""
    here = services.live.responses.get(key)
    if here is not None and found.running:
        return here.snapshot()
    return {**from_stored_json(found.body), "status": found.status}


async def cancel_response(services: Services, key: Key) -> StoredResponse:
    """Stop a background response, wherever it runs, and return its outcome. Raises NotFound and InvalidRequest."""
    found = await find_response(services, key)
    if not found.background:
        # OpenAI answers 400 here too: a response in the foreground is stopped by disconnecting.
        text = "Only responses that were made with 'background' can be cancelled."
        raise InvalidRequest(text, param="response_id", code="response_not_background")
    if found.running and await services.state.store.cancel(key):
        here = services.live.responses.get(key)
        if here is not None:
            here.interrupt(Conflict("The turn was cancelled.", code="cancelled", should_retry=False))
        found = await _wait_for_outcome(services, key)
    return found


async def _wait_for_outcome(services: Services, key: Key) -> StoredResponse:
    """Wait for the outcome of a cancelled response. If its process does not react, take the response over."""
    found = await find_response(services, key)
    # Another process learns of the cancellation when it renews its lease.
    with anyio.move_on_after(CANCEL_TIMEOUT):
        while found.running:
            await anyio.sleep(POLL_INTERVAL / 2)
            found = await find_response(services, key)
    # The process may be frozen. Its commit would come too late: the client was told that the response is cancelled.
    if found.running:
        body = {**from_stored_json(found.body), "status": "cancelled", "completed_at": None}
        taken = replace(found, status="cancelled", body=stored_json(body))
        notices = services.state.outbox.notices("response.cancelled", key.id, key.principal)
        if await services.state.store.take_response(key.principal, taken, None, notices):
            services.state.outbox.wake()
        found = await find_response(services, key)
    return found
