"""The package `fastapi-openai-compat`, which does for a FastAPI application what this library does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi_openai_compat import create_openai_router
from servers import agents

STREAMED = {"burst": agents.burst, "paced": agents.paced, "idle": agents.idle}


async def run_completion(model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> str | AsyncIterator[str]:
    if model == "history":
        return await agents.history(messages)
    prompt = messages[-1]["content"]
    return STREAMED[model](prompt) if body.get("stream") else await agents.plain(prompt)


app = FastAPI()
app.include_router(create_openai_router(list_models=lambda: [*STREAMED, "plain"], run_completion=run_completion))
