"""`GET /v1/responses` as a WebSocket: many responses over one connection, in lanes."""

from __future__ import annotations

from contextlib import suppress

import anyio
from anyio.abc import TaskGroup

from ..connection import TOO_BIG, Connection
from ..errors import OpenAICompatError
from ..http import ClientDisconnected, Frame
from ..parsers.responses_socket import Create, Steer, parse_command, parse_frame, parse_lane
from ..runtime import Runtime
from ..serializers.responses_socket import error_event
from .lanes import LaneLimits, Lanes


async def serve(runtime: Runtime, connection: Connection) -> None:
    """Accept, and run agents as the client asks for, until one of both leaves."""
    await connection.accept()
    async with anyio.create_task_group() as group:
        socket = _Socket(runtime, connection, group)
        group.start_soon(socket.end_when_drained)
        group.start_soon(socket.end_in_time)
        await socket.read()
        group.cancel_scope.cancel()


class _Socket:
    def __init__(self, runtime: Runtime, connection: Connection, group: TaskGroup) -> None:
        self._runtime = runtime
        self._connection = connection
        self._group = group
        self._lanes = Lanes(LaneLimits(bytes=runtime.limits.body))
        self._ending: OpenAICompatError | None = None
        self._idle = anyio.Event()

    async def read(self) -> None:
        """Take what the client sends until it leaves. Always waiting for it is how leaving is noticed."""
        with suppress(ClientDisconnected):
            while not self._connection.closed:
                await self._take(await self._connection.receive())

    async def _take(self, frame: Frame) -> None:
        if len(frame) > self._runtime.limits.body:  # where the transport has no such limit, or a higher one
            await self._connection.close(TOO_BIG, "message too big")
            return
        lane = None
        try:
            event = parse_frame(frame)
            lane = parse_lane(event)
            command = parse_command(event, lane, len(frame))
            if isinstance(command, Steer):
                pass
            else:
                self._lanes.add(command)
                self._begin()
        except OpenAICompatError as error:
            await self._connection.send(error_event(error, lane))

    def _begin(self) -> None:
        for request in self._lanes.take():
            self._group.start_soon(self._run, request)

    async def _run(self, request: Create) -> None:
        pass

    async def end_when_drained(self) -> None:
        """Once the server shuts down, close as soon as nothing runs; the client may connect to another process."""
        await self._connection.draining.wait()

    async def end_in_time(self) -> None:
        """Close an old connection."""
