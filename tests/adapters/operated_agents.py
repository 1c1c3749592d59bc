"""The agents that the tests of the operators' options serve."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

from openai_compat import Conversations, Server


async def seen(messages: list[dict[str, Any]]) -> str:
    """The messages that it gets."""
    return " / ".join([f"{message['role']}: {message['content']}" for message in messages])


async def pid(prompt: str) -> str:
    """The process that it runs in."""
    return str(os.getpid())


async def remembers(messages: list[dict[str, Any]]) -> str:
    """The process that it runs in, and what the user has said so far, as JSON."""
    said = [message["content"] for message in messages if message["role"] == "user"]
    return json.dumps({"pid": os.getpid(), "seen": said})


async def blocks(prompt: str) -> str:
    """Blocks its event loop until the other end of its connection to port `prompt` closes, which hears the process."""
    with socket.create_connection(("127.0.0.1", int(prompt))) as connection:
        connection.sendall(str(os.getpid()).encode())
        connection.recv(1)
    return str(os.getpid())


async def fails(prompt: str) -> str:
    raise RuntimeError("on purpose")


async def leashed(prompt: str) -> AsyncIterator[str]:
    """Says what it is told over the connection to port `prompt`, and there tells how it ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(prompt))
    try:
        while word := (await reader.readline()).decode().rstrip("\n"):
            yield word
        writer.write(b"the end")
    except BaseException:
        writer.write(b"finally")
        raise
    finally:
        writer.close()


class Numbered:
    """Knows how many were made before it."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.number = self.made

    async def run(self, prompt: str) -> str:
        return str(self.number)


agents = {"seen": seen, "pid": pid, "remembers": remembers, "blocks": blocks, "fails": fails, "leashed": leashed}
remembering = Server(agents, conversations=Conversations())
