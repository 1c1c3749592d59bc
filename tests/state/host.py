"""One of several servers that share a store: `python -m tests.state.host`, configured by its environment.

Writes its port to stdout once it listens.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

from openai_compat import ChatWebSocket, Conversations, Server
from openai_compat.policies.disconnect import Disconnect
from openai_compat.policies.limits import Deadlines, Limits
from openai_compat_adapters.serve import listen, serve


async def leashed(prompt: str, messages: list[dict[str, Any]]) -> AsyncIterator[str]:
    """Connects to the port that the prompt begins with, and repeats the text that it receives there, until a full stop."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(prompt.split()[0]))
    seen = [message["content"] for message in messages[:-1]]
    writer.write(json.dumps({"pid": os.getpid(), "prompt": prompt, "seen": seen}).encode() + b"\n")
    ended = "cancelled"
    try:
        while (line := (await reader.readline()).decode().rstrip("\n")) not in ("", "."):
            yield line
        ended = "ended"
    finally:
        writer.write(ended.encode())
        writer.close()


async def counting(prompt: str) -> AsyncIterator[str]:
    """Counts up to the number in the prompt, twenty a second."""
    for number in range(int(prompt)):
        yield f"{number} "
        await asyncio.sleep(0.05)


def remembering(messages: list[dict[str, Any]]) -> str:
    """Answers at once with the conversation history that it knows."""
    return json.dumps({"pid": os.getpid(), "seen": [message["content"] for message in messages]})


def echoing(prompt: str) -> str:
    """Repeats the prompt."""
    return prompt


def main() -> None:
    settings = os.environ
    server = Server(
        {"leashed": leashed, "counting": counting, "remembering": remembering, "echoing": echoing},
        store=settings["STORE"],
        chat_websocket=ChatWebSocket(),
        conversations=Conversations(busy="queue" if "QUEUE" in settings else "reject", queue=20.0),
        deadlines=Deadlines(lease=float(settings["LEASE"])),
        disconnect=Disconnect(then="finish" if "FINISH" in settings else "cancel"),
        limits=Limits(shared_slots=int(settings["SLOTS"]) if "SLOTS" in settings else None),
    )
    listener = listen(server, "127.0.0.1", 0)
    print(listener.getsockname()[1], flush=True)
    serve(server, listener, grace=5.0)


if __name__ == "__main__":
    main()
