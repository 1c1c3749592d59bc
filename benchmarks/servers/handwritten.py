"""A server as people write it in an afternoon: FastAPI, and the openai package's own types.

It handles text only: no error envelope, no client tools, no timeouts, no keys.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from typing import Any, Literal

from fastapi import FastAPI, HTTPException, Response
from fastapi.responses import StreamingResponse
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessage
from openai.types.chat.chat_completion import Choice
from openai.types.chat.chat_completion_chunk import Choice as ChunkChoice
from openai.types.chat.chat_completion_chunk import ChoiceDelta
from pydantic import BaseModel
from servers import agents

STREAMED = {"burst": agents.burst, "paced": agents.paced, "idle": agents.idle}


class ContentPart(BaseModel):
    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: dict[str, Any] | None = None


class Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class ChatRequest(BaseModel):
    model: str
    messages: list[Message]
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: str | list[str] | None = None
    tools: list[dict[str, Any]] | None = None


app = FastAPI()


@app.post("/v1/chat/completions")
async def create_chat_completion(body: ChatRequest) -> Response:
    if body.stream:
        return StreamingResponse(_events(body), media_type="text/event-stream")
    completion = ChatCompletion(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        object="chat.completion",
        created=int(time.time()),
        model=body.model,
        choices=[
            Choice(
                index=0,
                message=ChatCompletionMessage(role="assistant", content=await _answer(body)),
                finish_reason="stop",
            )
        ],
        usage=CompletionUsage(prompt_tokens=0, completion_tokens=0, total_tokens=0),
    )
    return Response(completion.model_dump_json(), media_type="application/json")


async def _answer(body: ChatRequest) -> str:
    if body.model == "plain":
        return await agents.plain(_prompt(body))
    if body.model == "history":
        return await agents.history([message.model_dump(exclude_none=True) for message in body.messages])
    raise HTTPException(404, f"The model '{body.model}' does not exist")


async def _events(body: ChatRequest) -> AsyncIterator[str]:
    chunk_id, created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())

    def line(delta: ChoiceDelta, finish_reason: Literal["stop"] | None = None) -> str:
        chunk = ChatCompletionChunk(
            id=chunk_id,
            object="chat.completion.chunk",
            created=created,
            model=body.model,
            choices=[ChunkChoice(index=0, delta=delta, finish_reason=finish_reason)],
        )
        return f"data: {chunk.model_dump_json()}\n\n"

    yield line(ChoiceDelta(role="assistant"))
    async for text in STREAMED[body.model](_prompt(body)):
        yield line(ChoiceDelta(content=text))
    yield line(ChoiceDelta(), "stop")
    yield "data: [DONE]\n\n"


def _prompt(body: ChatRequest) -> str:
    content = body.messages[-1].content
    return content if isinstance(content, str) else ""
