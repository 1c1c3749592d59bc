"""openai-compat with its bounds as they come, and agents that wait and work. With the store at the URL in $STORE, if any."""

from __future__ import annotations

import asyncio
import os
import time

from servers import agents

from openai_compat import Server
from openai_compat_adapters.starlette import create_app

WAIT, WORK = 0.02, 0.001
"""Seconds for which an answer waits, as for a model, and for which it then keeps the CPU."""


async def working(prompt: str) -> str:
    """Answers when it has waited and worked."""
    await asyncio.sleep(WAIT)
    until = time.thread_time() + WORK
    while time.thread_time() < until:
        pass
    return agents.ANSWER


app = create_app(Server({"plain": working, "streams": agents.paced}, store=os.environ.get("STORE")))
