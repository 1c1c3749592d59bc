"""`GET /v1/responses` as a WebSocket: many responses over one connection, in lanes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel

from ....aio.background import ChildTasks, child_tasks, drop_tracebacks
from ....aio.off_loop import run_off_loop
from ....errors import InvalidRequest, OpenAICompatError, Unauthorized, Unavailable
from ....http import ClientDisconnected, Frame
from ....state.ids import new_id
from ....wire.json import QUICK_FRAME
from ....wire.responses.parse.websocket import (
    Command,
    Create,
    InvalidSteer,
    Processed,
    Steer,
    parse_command,
    parse_frame,
    parse_lane,
)
from ....wire.responses.serialize.websocket import error_event
from ...services import Services
from ...websocket import GOING_AWAY, POLICY, RESTART, TOO_BIG, WebSocketConnection
from .lanes import LaneLimits, Lanes
from .local_responses import ConnectionResponses
from .request import WebSocketResponse
from .steering import Steering, successor


async def serve(services: Services, connection: WebSocketConnection) -> None:
    """Accept the connection, and run agents as the client requests, until one side leaves."""
    await connection.accept()
    async with child_tasks() as children:
        socket = ResponsesSocket(services, connection, children)
        children.start(socket.end_in_time, "connection's time limit")
        children.start(socket.end_when_drained, "connection's drain")
        try:
            await socket.read()
        finally:
            socket.local_responses.forget()


class ResponsesSocket:
    """One connection. Leaving its task group stops running responses, or detaches them, as the Disconnect policy says."""

    def __init__(self, services: Services, connection: WebSocketConnection, children: ChildTasks) -> None:
        self.services = services
        self.connection = connection
        self.local_responses = ConnectionResponses(services.live.connection_responses, connection.principal.id)
        self.steering = Steering(services.settings.limits.body)
        self._children = children
        self._lanes = Lanes(LaneLimits(bytes=services.settings.limits.body))
        self._turns: dict[str, WebSocketResponse] = {}
        self._over: OpenAICompatError | None = None
        self._close_code = GOING_AWAY

    async def read(self) -> None:
        """Handle the client's frames until it leaves. A disconnect is noticed because a read is always pending."""
        with suppress(ClientDisconnected):
            while True:
                await self._handle_frame(await self.connection.receive())
                await anyio.lowlevel.checkpoint()  # frames that have arrived already must not block other tasks

    async def _handle_frame(self, frame: Frame) -> None:
        if len(frame) > self.services.settings.limits.body:  # the transport's own limit may be higher
            await self._close(TOO_BIG, "message too big")
            return
        lane = None
        try:
            event = await run_off_loop(
                parse_frame, frame, self.services.settings.limits.values, long=len(frame) > QUICK_FRAME
            )
            lane = parse_lane(event)
            await self._handle_command(parse_command(event, lane, len(frame)))
        except InvalidSteer as error:
            await self.connection.send(self.steering.refusal_frame(error.steer, error))
        except OpenAICompatError as error:
            await self.fail(error, lane, new_id("req_"))

    async def _handle_command(self, command: Command) -> None:
        # Codex reports that it has read an answer; it would take an error in reply for the next turn's.
        if isinstance(command, Processed):
            return
        if isinstance(command, Steer):
            await self._steer(command)
            return
        if self._over is not None:
            raise self._over
        self._lanes.add(command)
        self._start_waiting()

    async def _steer(self, steer: Steer) -> None:
        try:
            accepted = self.steering.submit(steer, new_id("steer_"))
        except InvalidRequest as error:
            await self.connection.send(self.steering.refusal_frame(steer, error))
        else:
            await self.connection.send(accepted)
            if steer.previous in self._turns:
                self._turns[steer.previous].steer(steer)

    def _start_waiting(self) -> None:
        for request in self._lanes.take():
            self._children.start(partial(self._run_request, request), "response")

    async def _run_request(self, request: Create) -> None:
        turn = WebSocketResponse(self, request)
        try:
            await turn.run()
        except ClientDisconnected:
            self._children.cancel()
        finally:
            self._lanes.mark_done(request)
            # One whose client left has not ended: it and this socket would hold each other.
            self._turns = {identifier: other for identifier, other in self._turns.items() if other is not turn}
        self._start_waiting()
        await self._close_if_over()

    def on_response_begun(self, turn: WebSocketResponse, identifier: str) -> None:
        """Note that a turn's response has begun."""
        self._turns[identifier] = turn
        self.steering.on_response_begun(identifier, turn.request.lane, able=turn.steerable)

    async def on_response_failed(self, identifier: str) -> None:
        """Note that a turn's response has failed."""
        self._turns.pop(identifier, None)
        await self.send(self.steering.on_response_failed(identifier))

    async def on_response_ended(self, turn: WebSocketResponse, response: dict[str, Any]) -> None:
        """Note that a turn's response is complete, or as complete as it will be."""
        self._turns.pop(response["id"], None)
        frames, follow = self.steering.on_response_ended(response)
        await self.send(frames)
        # The successor continues this very response, before any other request in its lane.
        if follow:
            self._lanes.add(successor(turn.request, response["id"]), first=True)

    async def send(self, frames: Iterable[str]) -> None:
        """Send frames, in this order and with nothing in between."""
        await self.connection.send(*frames)

    async def fail(self, error: OpenAICompatError, lane: str | None, request_id: str) -> None:
        """Report that a request has failed. The connection goes on, unless its key is no longer valid."""
        drop_tracebacks(error)
        await self.connection.send(error_event(error, request_id, lane))
        # The client cannot send the header again on this connection.
        if isinstance(error, Unauthorized):
            await self._close(POLICY, "invalid_api_key")

    async def end_in_time(self) -> None:
        """Close the connection after its time limit: the client has to connect again."""
        await anyio.sleep(self.services.settings.deadlines.connection)
        text = "This connection has reached its time limit. Connect again to go on."
        self._over = InvalidRequest(text, code="websocket_connection_limit_reached")
        await self._close_if_over()

    async def end_when_drained(self) -> None:
        """Once the server shuts down, close as soon as nothing runs, so that the client can connect to another process."""
        await self.connection.draining.wait()
        self._over = Unavailable("The server is shutting down.", code="shutting_down")
        self._close_code = RESTART
        await self._close_if_over()

    async def _close_if_over(self) -> None:
        if self._over is None or not self._lanes.idle:
            return
        with suppress(ClientDisconnected):
            if self._close_code == GOING_AWAY:
                await self.fail(self._over, None, self.connection.request_id)
            await self._close(self._close_code, self._over.code or "")

    async def _close(self, code: int, reason: str) -> None:
        await self.connection.close(code, reason)
        self._children.cancel()
