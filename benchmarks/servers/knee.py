"""openai-compat with its default limits, and agents that wait or work. Uses the store at the URL in $STORE, if any."""

from __future__ import annotations

import asyncio
import os
import time

from servers import agents

from openai_compat import Server
from openai_compat_adapters.starlette import create_app

WAIT, WORK = 0.2, 0.001
"""Seconds for which an answer waits, as for a model, or keeps the CPU busy."""


async def waiting(prompt: str) -> str:
    """Answers after a wait."""
    await asyncio.sleep(WAIT)
    return agents.ANSWER


async def working(prompt: str) -> str:
    """Answers after some CPU work."""
    until = time.thread_time() + WORK
    while time.thread_time() < until:
        pass
    return agents.ANSWER


server = Server(
    {"plain": waiting, "working": working, "streams": agents.paced},
    store=os.environ.get("STORE"),
)
app = create_app(server)
