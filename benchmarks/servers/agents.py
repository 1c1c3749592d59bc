"""The measured agents: the same ones behind the hand-written server and behind ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

PIECE = "token "
ANSWER = "The quick brown fox jumps over the lazy dog."
EVENTS_PER_SECOND = 50
FOREVER = 3600.0


async def burst(prompt: str) -> AsyncIterator[str]:
    """Says as many pieces as the prompt asks for, as fast as it can."""
    for _ in range(int(prompt)):
        yield PIECE


async def paced(prompt: str) -> AsyncIterator[str]:
    """Says as many pieces as the prompt asks for, at the speed of a model."""
    for _ in range(int(prompt)):
        await asyncio.sleep(1 / EVENTS_PER_SECOND)
        yield PIECE


async def idle(prompt: str) -> AsyncIterator[str]:
    """Says one piece, then thinks."""
    yield PIECE
    await asyncio.sleep(FOREVER)


async def plain(prompt: str) -> str:
    """Answers at once."""
    return ANSWER


async def history(messages: list[dict[str, object]]) -> str:
    """Ignores a long conversation, and answers at once."""
    return ANSWER
