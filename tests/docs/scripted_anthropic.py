"""A fake Anthropic API for the anthropic SDK: one scripted answer, streamed."""

from __future__ import annotations

import json
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

EVENTS: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "scripted",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 20, "output_tokens": 1},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Four."}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 2},
    },
    {"type": "message_stop"},
]


async def messages(request: Request) -> Response:
    """A scripted `POST /v1/messages`, streamed as the anthropic SDK reads it."""
    body = "".join([f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in EVENTS])
    return Response(body, media_type="text/event-stream")


app = Starlette(routes=[Route("/v1/messages", messages, methods=["POST"])])
