"""openai-compat for `slots.py`, with agents that stream as long as the measurement lasts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

from servers import agents

from openai_compat import Limits, Server
from openai_compat_adapters.starlette import create_app


def threaded(prompt: str) -> Iterator[str]:
    """Says pieces at the speed of a model. A plain generator, which runs in its own thread."""
    for _ in range(int(prompt)):
        time.sleep(1 / agents.EVENTS_PER_SECOND)
        yield agents.PIECE


async def remembering(messages: list[dict[str, object]]) -> AsyncIterator[str]:
    """Says one piece, then waits with the history in memory."""
    yield agents.PIECE
    await asyncio.sleep(agents.FOREVER)


app = create_app(
    Server(
        {"paced": agents.paced, "threaded": threaded, "idle": agents.idle, "remembering": remembering},
        limits=Limits(slots=2000),
    )
)
