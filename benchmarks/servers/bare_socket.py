"""A bare Starlette WebSocket that sends the frames of a chat turn one by one, as in hand-written servers."""

from __future__ import annotations

import json

from servers import agents
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

THREAD = {"thread_id": "thread_0123456789abcdef0123456789abcdef"}


async def chat(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            await _turn(socket, json.loads(await socket.receive_text())["content"])
    except WebSocketDisconnect:
        pass


async def _turn(socket: WebSocket, prompt: str) -> None:
    number = 1
    said: list[str] = []
    async for piece in agents.burst(prompt):
        number += 1
        said.append(piece)
        chunk = {"type": "chunk", "content_type": "text", "content": piece, "done": False, **THREAD, "chat_seq": number}
        await socket.send_text(json.dumps(chunk))
    message = {"type": "message", "role": "assistant", "content": "".join(said), **THREAD, "chat_seq": number + 1}
    await socket.send_text(json.dumps(message))


app = Starlette(routes=[WebSocketRoute("/chat", chat)])
