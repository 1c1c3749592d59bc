"""openai-compat with agents that stream for as long as one looks, for `slots.py`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

from servers import agents

from openai_compat import Limits, Server
from openai_compat_adapters.starlette import create_app


def threaded(prompt: str) -> Iterator[str]:
    """Says pieces at the speed of a model. A plain generator, which has a thread of its own."""
    for _ in range(int(prompt)):
        time.sleep(1 / agents.EVENTS_PER_SECOND)
        yield agents.PIECE


async def remembering(messages: list[dict[str, object]]) -> AsyncIterator[str]:
    """Says one piece, then thinks, with the history in hand."""
    yield agents.PIECE
    await asyncio.sleep(agents.FOREVER)


app = create_app(
    Server(
        {"paced": agents.paced, "threaded": threaded, "idle": agents.idle, "remembering": remembering},
        limits=Limits(slots=2000),
    )
)
