"""One response over a WebSocket: delivers its events, and tells the connection how it ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ....agent_request import AgentRequest
from ....aio.background import drop_tracebacks
from ....aio.off_loop import run_off_loop
from ....backend import AgentBackend, RunContext, SupportsCancel, SupportsSteering
from ....errors import OpenAICompatError
from ....http import ClientDisconnected
from ....policies.hooks import RefusalReason
from ....policies.housekeeping import task_of
from ....state.event_log import EventLogWriter
from ....state.ids import new_id
from ....turns.refusals import refusal_reason
from ....wire.json import QUICK_FRAME, dumps
from ....wire.responses.parse.request import parse_response
from ....wire.responses.parse.websocket import Create, Steer
from ....wire.responses.serialize.websocket import event_frames
from ...access_log import log_access
from ...detach import run_detachable, run_with_start_deadline
from ...services import logger
from ...websocket import WebSocketRequester
from ..chores import chore_response
from ..endpoint import take_seat
from ..prepare import History, PreparedResponse, ResponseIds, prepare_response
from ..run import run_response
from .steering import to_items, with_input

if TYPE_CHECKING:
    from .connection import ResponsesSocket


class WebSocketResponse:
    """One request on a connection, and the delivery of its response."""

    def __init__(self, socket: ResponsesSocket, request: Create) -> None:
        self.request = request
        self.request_id = new_id("req_")
        self.principal = socket.connection.principal
        self._socket = socket
        self._submissions = socket.steering.take_input_for(request)
        self._requester = WebSocketRequester(self.principal, self.request_id)
        self._work: PreparedResponse | None = None
        self._agent: _SteerableBackend | None = None
        self._status = 0
        self._note = ""
        self._refused: RefusalReason | None = None
        self._agent_started = False
        self._detachable = False
        self._gone = False
        self._began = time.monotonic()
        self.goes_on = False
        self.on_begun: Callable[[], object] | None = None

    @property
    def steerable(self) -> bool:
        """True if the agent accepts input while it runs."""
        return self._agent is not None

    def steer(self, steer: Steer) -> None:
        """Pass on that the user has said more."""
        if self._agent is not None and self._work is not None and self._agent.steer(to_items(steer.input)):
            self._work.stream.steered = True

    async def run(self) -> None:
        """Make the response, or report why there is none."""
        self._began = time.monotonic()
        try:
            # For each request: a connection may last for an hour, and keys can be revoked meanwhile.
            await self._socket.connection.authenticate()
            self.principal = self._socket.connection.principal
            await run_detachable(self._socket.services.settings.disconnect, self, self._respond_with_start_deadline)
        except OpenAICompatError as error:
            await self._report_failure(error)
        except ClientDisconnected:
            self._note = "client left"
            raise
        except Exception as error:
            logger.error("%s: unexpected error", self.request_id, exc_info=error)
            await self._report_failure(
                OpenAICompatError("The server failed.", code="internal_error", should_retry=False)
            )
        finally:
            if not self.goes_on:  # the turn's outcome is known once it is over
                self._report_outcome()

    def over(self) -> None:
        """Note that the turn went on without its client, and is over."""
        self.goes_on = False
        self._report_outcome()

    def _report_outcome(self) -> None:
        path, turn = self._socket.connection.request.path, self._requester.turn
        hooks = self._socket.services.live.runner.hooks
        hooks.refused(self.request_id, self.principal.id, self._refused, self._note)
        log_access(
            self.request_id,
            "response.create",
            path,
            self._status,
            began=self._began,
            note=self._note,
            principal=self.principal,
            turn=turn,
            reason=self._refused,
        )

    async def _respond_with_start_deadline(self) -> None:
        state, patience = self._socket.services.state, self._socket.services.settings.deadlines.request
        if state.store.shared:
            await run_with_start_deadline(self, state.late, patience, self._respond)
        else:  # a store in this process answers at once
            await self._respond()

    async def _respond(self) -> None:
        services, http, ids = self._socket.services, self._socket.connection.request, ResponseIds()
        if services.live.rates is not None:
            await services.live.rates.count(self.principal)
        body = with_input(self.request, self._submissions)
        caller = services.settings.caller(self.principal, http)
        long = self.request.size > QUICK_FRAME
        parsed = await run_off_loop(partial(parse_response, body, caller, ids, long=long), long=long)
        housekeeping = services.settings.housekeeping
        if housekeeping is not None and parsed.generate and not parsed.background:
            task = task_of(http, parsed.request)
            if task is not None:
                self._note = "housekeeping"
                text = await housekeeping.answer(task, replace(parsed.request, is_kept=False))
                _, frames = chore_response(services, parsed, ids, text)
                await self.write(frames)
                return
        self._requester = requester = WebSocketRequester(self.principal, self.request_id)
        self._work = work = await prepare_response(
            services, requester, parsed, ids=ids, http=http, local_responses=self._socket.local_responses
        )
        if isinstance(work.backend, SupportsSteering) and work.draft is None:
            work.backend = self._agent = _SteerableBackend(work.backend)
        seat = await take_seat(services, work, known=parsed.store and services.settings.disconnect.then != "cancel")
        await run_response(services, work, self, seat)

    async def _report_failure(self, error: OpenAICompatError) -> None:
        self._status, self._note = error.status, error.code or error.type
        self._refused = None if self._agent_started else refusal_reason(error)
        drop_tracebacks(error)
        socket, lane = self._socket, self.request.lane
        # OpenAI's rule: a continuation that fails removes the response that it continues from the connection's memory.
        socket.local_responses.drop_failed(self.request.previous, lane)
        if self._gone:
            return
        await socket.fail(error, lane, self.request_id)
        await socket.send(socket.steering.handback_frames(self._submissions, lane))
        if self._work is not None:
            await socket.on_response_failed(self._work.id)

    def allow_detach(self) -> None:
        """Treat write failures as a disconnect, not as an error, from now on."""
        self._detachable = True

    def detach(self) -> None:
        """Note that the client has left, but the work goes on: nothing more is sent."""
        self._gone = True

    def started(self) -> None:
        """Note that the agent is about to run."""
        self._agent_started = True
        if self.on_begun is not None:
            self.on_begun()
        if self._work is not None:
            self._socket.on_response_begun(self, self._work.id)

    write_now = None

    @property
    def due(self) -> float:
        """When the log is due to be copied to the store."""
        return math.inf if self._log is None else self._log.due

    @property
    def _log(self) -> EventLogWriter | None:
        return None if self._work is None else self._work.log

    async def write(self, frames: bytes) -> None:
        """Send frames. The first ones commit the input that arrived while the previous response was made."""
        await self._send_events(frames)
        await self.flush()

    async def _send_events(self, frames: bytes) -> None:
        if self._log is not None:
            self._log.record(frames)
        self._submissions, self._status = [], 200
        await self._send([frame.text for frame in event_frames(frames, self.request.lane)])

    async def flush(self) -> None:
        """Copy the log to the store."""
        if self._log is not None:
            await self._log.flush()

    async def keep_alive(self) -> None:
        """Nothing: the connection sends its own pings."""

    async def end(self, frames: bytes) -> None:
        """Send the last frames; from then on the response can be continued."""
        if self._work is None:
            return
        response = self._work.stream.response()
        # Before the last event is sent: the client may continue the response at once.
        if not self._work.parsed.store and not self._gone:
            self._keep_response(self._work, response["output"])
        await self._send_events(frames)
        if not self._gone:
            await self._socket.on_response_ended(self, response)

    def _keep_response(self, work: PreparedResponse, output: list[dict[str, Any]]) -> None:
        items = [*work.history, *work.parsed.conversation_items, *output]
        size = self.request.size + len(dumps(output)) + (0 if work.final_state is None else len(work.final_state.body))
        self._socket.local_responses.keep(
            work.id, History(items, work.final_state), after=work.parsed.previous, lane=self.request.lane, size=size
        )

    async def fail(self, error: OpenAICompatError, frames: bytes) -> None:
        """Send the last frames of a response that failed: one event, from which clients know that it is over."""
        if self._log is not None:
            self._log.record(frames)
        if self._work is None or not self._status:
            raise error
        self._note = error.code or error.type
        self._socket.local_responses.drop_failed(self.request.previous, self.request.lane)
        # `response.failed` alone: a client would take `error` for the end, and this event for the start of another response.
        await self._send([frame.text for frame in event_frames(frames, self.request.lane) if frame.type != "error"])
        if not self._gone:
            await self._socket.on_response_failed(self._work.id)

    async def _send(self, frames: list[str]) -> None:
        if self._gone:
            return
        try:
            await self._socket.connection.send(*frames)
        except ClientDisconnected:
            if not self._detachable:
                raise
            self._gone = True


class _SteerableBackend:
    """An agent that accepts further user input while it runs."""

    def __init__(self, backend: AgentBackend) -> None:
        self._backend: Any = backend
        self._context: RunContext | None = None
        self.capabilities = backend.capabilities

    def run(self, request: AgentRequest, context: RunContext) -> Any:
        self._context = context
        return self._backend.run(request, context)

    def request_cancel(self, context: RunContext) -> None:
        """Ask the agent to stop, if it supports that."""
        if isinstance(self._backend, SupportsCancel):
            self._backend.request_cancel(context)

    def steer(self, items: list[dict[str, Any]]) -> bool:
        """Pass input to the agent, unless the agent has not begun. True if it will end early."""
        if self._context is None:
            return False
        try:
            return self._backend.steer(self._context, items) is True
        except Exception as error:
            self._context.logger.warning("the agent could not be steered", exc_info=error)
            return False
