"""Requests that tests send to servers, with the openai SDK."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
from openai import AsyncOpenAI


async def chat(client: AsyncOpenAI, conversation: str, content: str, model: str = "leashed", **options: Any) -> Any:
    """Run a turn in a conversation."""
    return await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": content}],
        extra_headers={"X-Conversation-Id": conversation, **options.pop("extra_headers", {})},
        **options,
    )


async def taken(client: AsyncOpenAI, conversation: str, content: str) -> bool:
    """True if a turn was accepted; False while the conversation is locked, or the store is unavailable."""
    try:
        await chat(client, conversation, content, model="echoing")
    except (openai.ConflictError, openai.InternalServerError):
        return False
    return True


def text(completion: Any) -> str:
    return str(completion.choices[0].message.content)


async def remembered(client: AsyncOpenAI, conversation: str) -> tuple[int, list[str]]:
    """The process that ran a turn of the conversation, and the history it knew. This runs a turn itself."""
    said = json.loads(text(await chat(client, conversation, "?", model="remembering")))
    return said["pid"], said["seen"][:-1]


async def stored(client: AsyncOpenAI, conversation: str) -> list[str]:
    """All messages of a conversation, in order."""
    found = [item async for item in client.conversations.items.list(conversation, order="asc")]
    return ["".join([part.text for part in item.content]) for item in found]


def soon(work: Any) -> asyncio.Task[Any]:
    """Start the work as a task."""
    return asyncio.ensure_future(work)


async def background(client: AsyncOpenAI, content: str, model: str = "leashed", **options: Any) -> Any:
    """A background response, which runs whether or not its client waits."""
    return await client.responses.create(model=model, input=content, background=True, **options)
