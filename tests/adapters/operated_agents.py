"""Agents for the tests of the operators' options."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

from openai_compat import Conversations, Server


async def seen(messages: list[dict[str, Any]]) -> str:
    """Returns the messages that it gets."""
    return " / ".join([f"{message['role']}: {message['content']}" for message in messages])


async def pid(prompt: str) -> str:
    """Returns its process id."""
    return str(os.getpid())


async def remembers(messages: list[dict[str, Any]]) -> str:
    """Returns its process id and the user's messages, as JSON."""
    said = [message["content"] for message in messages if message["role"] == "user"]
    return json.dumps({"pid": os.getpid(), "seen": said})


async def blocks(prompt: str) -> str:
    """Connects to port `prompt`, sends its process id, and blocks its event loop until the connection is closed."""
    with socket.create_connection(("127.0.0.1", int(prompt))) as connection:
        connection.sendall(str(os.getpid()).encode())
        connection.recv(1)
    return str(os.getpid())


async def fails(prompt: str) -> str:
    raise RuntimeError("on purpose")


async def leashed(prompt: str) -> AsyncIterator[str]:
    """Says the lines that it receives from port `prompt`, and reports there how it ends."""
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
    """Returns how many instances existed when it was made."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.number = self.made

    async def run(self, prompt: str) -> str:
        return str(self.number)


agents = {"seen": seen, "pid": pid, "remembers": remembers, "blocks": blocks, "fails": fails, "leashed": leashed}
remembering = Server(agents, conversations=Conversations())
