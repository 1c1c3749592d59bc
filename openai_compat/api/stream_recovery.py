"""Chat streams that outlive their clients: logged while they are made, resumed with `Last-Event-ID`.

A stream has `id:` lines only if it can be resumed: under a disconnect policy that lets turns go on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

from ..errors import AgentError, InvalidRequest, NotFound, OpenAICompatError
from ..policies.content import check_content_type
from ..state.conversation_locks import Draft
from ..state.event_log import EventLogWriter
from ..stores.records import Key, ResponseStatus, StoredResponse, TurnCommit
from ..wire.errors import error_frame
from ..wire.json import KEEP_ALIVE_WITH_IDS
from .exchange import Exchange
from .follow import CHAT_PREFIX, stream_events, write_frames
from .services import Services, now


@asynccontextmanager
async def recoverable_stream(
    services: Services,
    exchange: Exchange,
    identifier: str,
    draft: Draft | None,
    failed: Callable[[OpenAICompatError], bytes] = error_frame,
) -> AsyncGenerator[EventLogWriter]:
    """The event log of a chat stream. An exception that leaves the block becomes the last frame, as `failed` makes it."""
    key, token = Key(exchange.principal.id, identifier), identifier if draft is None else draft.token
    # Readers of event streams send the last `id:` back as `Last-Event-ID` (WHATWG HTML, server-sent events).
    writer = EventLogWriter(services.state.logs, key, token, exchange.request_id)
    await writer.begin(StoredResponse(id=identifier, created=now(), status="in_progress", body="{}"))
    services.state.logs.live[key] = writer.log
    # Without a conversation, a stream whose lease was lost goes on; its commit will fail.
    services.state.leases.hold(token, (lambda _: None) if draft is None else draft.interrupt)
    try:
        yield writer
    except BaseException as error:
        known = error if isinstance(error, OpenAICompatError) else AgentError("The turn was stopped.")
        status: ResponseStatus = "failed" if known is error else "cancelled"
        frame = failed(known)
        # A client that resumes the stream later has to find its end, so this is written even if the client has left.
        await services.state.late.run_shielded(
            lambda: _write_end(services, key, token, writer, status=status, frame=frame), "chat stream ended"
        )
        raise
    finally:
        if draft is None:
            services.state.leases.drop(token)
        del services.state.logs.live[key]
        writer.log.end()


async def _write_end(
    services: Services, key: Key, token: str, writer: EventLogWriter, *, status: ResponseStatus, frame: bytes
) -> None:
    """Write the end of a turn to the log: the turn has failed, or its client has left for good."""
    response, events = writer.response_with_status(status), await writer.final_batch(frame)
    with suppress(OpenAICompatError):
        await services.state.store.commit(
            TurnCommit(principal=key.principal, token=token, response=response, events=events)
        )
    writer.record(frame)


async def recover_stream(services: Services, exchange: Exchange, last_event: str) -> None:
    """Resume a stream after the last event that its client has seen; no agent is run. Raises NotFound."""
    check_content_type(exchange.request)
    identifier, _, number = last_event.rpartition(":")
    if not (number.isascii() and number.isdigit() and len(number) < 15):
        text = "'Last-Event-ID' is not the id of an event of a chat stream."
        raise InvalidRequest(text, param="Last-Event-ID", code="invalid_value")
    key = Key(exchange.principal.id, identifier)
    if not identifier.startswith(CHAT_PREFIX) or await services.state.store.response(key) is None:
        raise NotFound("No chat stream has this id.", code="completion_not_found", param="Last-Event-ID")
    await write_frames(exchange, stream_events(services, key, int(number)), KEEP_ALIVE_WITH_IDS)
    await exchange.end()
