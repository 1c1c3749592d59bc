"""A client of the chat WebSocket that exchanges frames without a socket; every wait is bounded."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgpack

from openai_compat import ChatWebSocket, Server
from openai_compat_adapters.websocket import Closed, WebSocket, connect

PATIENCE = 10
LAST = frozenset({"message", "error", "generation_stopped"})


class Client:
    """One connection. `pings` are those that arrived between other frames."""

    def __init__(self, websocket: WebSocket, *, binary: bool = False) -> None:
        self.websocket = websocket
        self.binary = binary
        self.kinds: list[type] = []
        self.pings = 0

    async def raw(self, frame: str | bytes) -> None:
        with anyio.fail_after(PATIENCE):
            await self.websocket.send(frame)

    async def send(self, **fields: Any) -> None:
        await self.raw(msgpack.packb(fields) if self.binary else json.dumps(fields))

    async def say(self, content: Any = "hi", **fields: Any) -> None:
        await self.send(**{"role": "user", "content": content, "thread_id": "t", **fields})

    async def receive(self) -> dict[str, Any]:
        """The next frame that is not a ping; pings are counted."""
        while True:
            with anyio.fail_after(PATIENCE):
                frame = await self.websocket.receive()
            self.kinds.append(type(frame))
            fields = json.loads(frame) if isinstance(frame, str) else msgpack.unpackb(frame)
            if fields["type"] != "ping":
                return fields
            self.pings += 1

    async def until(self, *types: str) -> list[dict[str, Any]]:
        """The frames up to the first of these types, by default the last one of a turn."""
        frames = [await self.receive()]
        while frames[-1]["type"] not in (types or LAST):
            frames.append(await self.receive())
        return frames

    async def ask(self, content: Any = "hi", **fields: Any) -> list[dict[str, Any]]:
        """The frames of a turn."""
        await self.say(content, **fields)
        return await self.until()

    async def error(self) -> tuple[int, str | None, str | None]:
        """Status, code and param of the next frame, which must be a complete error."""
        frame = await self.receive()
        assert frame["type"] == "error", frame
        assert {"message", "error_type", "status", "error", "request_id"} <= set(frame)
        assert set(frame["error"]) == {"message", "type", "code", "param"}
        return frame["status"], frame["error"]["code"], frame["error"]["param"]

    async def pong(self) -> list[dict[str, Any]]:
        """The frames sent so far."""
        await self.send(type="ping")
        return (await self.until("pong"))[:-1]

    async def closed(self) -> int:
        """The code with which the server closes."""
        with anyio.fail_after(PATIENCE):
            try:
                while True:
                    await self.websocket.receive()
            except Closed as closed:
                return closed.code


@asynccontextmanager
async def chat(
    server: Server, *, path: str = "/chat", query: str = "", binary: bool = False, **headers: str
) -> AsyncGenerator[Client]:
    async with connect(server, path, query=query, headers=headers) as websocket:
        yield Client(websocket, binary=binary)


def server_of(agent: Any, socket: ChatWebSocket | None = None, **settings: Any) -> Server:
    return Server(agent, chat_websocket=socket or ChatWebSocket(), **settings)


async def echo(messages: list[dict[str, Any]]) -> AsyncIterator[str]:
    """Repeats the whole conversation, in two chunks."""
    yield "heard: "
    yield " / ".join([str(message["content"]) for message in messages])


def text(frames: list[dict[str, Any]]) -> str:
    """The streamed text."""
    return "".join([frame["content"] for frame in frames if frame["type"] == "chunk" and not frame.get("thinking")])


def types(frames: list[dict[str, Any]]) -> list[str]:
    return [frame["type"] for frame in frames]


class Gate:
    """An agent that says "one"; if its prompt is "wait NAME", it waits until let through."""

    def __init__(self) -> None:
        self.doors: dict[str, anyio.Event] = {}
        self.ended: list[str] = []
        self._changed = anyio.Event()

    async def __call__(self, prompt: str) -> AsyncIterator[str]:
        word, _, name = prompt.partition(" ")
        if word == "wait":
            yield f"[{name}]"
            self.doors[name] = anyio.Event()
            self._change()
            try:
                await self.doors[name].wait()
            finally:
                self.ended.append(name)
                self._change()
        yield prompt

    def _change(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(PATIENCE):
            while not condition():
                await self._changed.wait()

    async def waits(self, *names: str) -> None:
        """Return once the agent waits at these doors."""
        await self.until(lambda: set(names) <= set(self.doors))
