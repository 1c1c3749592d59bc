"""openai-compat with its bounds as they come, and agents that wait and work. With the store at the URL in $STORE, if any."""

from __future__ import annotations

import asyncio
import os
import time

from servers import agents

from openai_compat import Server
from openai_compat_adapters.starlette import create_app

WAIT, WORK = 0.2, 0.001
"""Seconds for which an answer waits, as for a model, or for which it keeps the CPU."""


async def waiting(prompt: str) -> str:
    """Answers when it has waited."""
    await asyncio.sleep(WAIT)
    return agents.ANSWER


async def working(prompt: str) -> str:
    """Answers when it has worked."""
    until = time.thread_time() + WORK
    while time.thread_time() < until:
        pass
    return agents.ANSWER


server = Server(
    {"plain": waiting, "working": working, "streams": agents.paced},
    store=os.environ.get("STORE"),
)
app = create_app(server)
