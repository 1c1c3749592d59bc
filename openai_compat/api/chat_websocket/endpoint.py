"""The path of the chat WebSocket, and how a connection on it begins and ends."""

from __future__ import annotations

from ...aio.background import child_tasks
from ..routing import Route
from ..services import Services
from ..websocket import WebSocketConnection
from .connection import ChatConnection
from .threads import ChatThreads


def route(threads: ChatThreads) -> Route:
    """The path of the chat WebSocket. Browsers bring the key in its query, since they cannot set headers."""
    return Route(
        threads.settings.path, {}, lambda services, connection: serve(threads, services, connection), query_key=True
    )


async def serve(threads: ChatThreads, services: Services, connection: WebSocketConnection) -> None:
    """Accept, and do as the client says until one of both leaves. Turns that it has begun go on without it."""
    await connection.accept()
    async with child_tasks() as children:
        socket = ChatConnection(threads, services, connection, children)
        children.start(socket.write, "connection's writer")
        children.start(socket.end_when_drained, "connection's drain")
        try:
            await socket.read()
        # Turns hear of it within their grace, and so end for want of a client.
        finally:
            socket.leave()
