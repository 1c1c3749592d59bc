"""Responses of providers for the tests, in the formats of their APIs."""

from __future__ import annotations

import json
from typing import Any

from openai_compat.providers import ProviderSettings
from tests.backends.upstream import Reply, error_reply
from tests.docs.scripted_anthropic import EVENTS

KEY = "sk-a-secret-that-nobody-may-see"
PATHS = {
    "anthropic": ("", "/v1/messages", "/v1/models?limit=1000"),
    "azure": (
        "",
        "/openai/deployments/m/chat/completions?api-version=2024-10-21",
        "/openai/models?api-version=2024-10-21",
    ),
    "google": ("/v1beta/openai", "/v1beta/openai/chat/completions", "/v1beta/openai/models"),
    "cohere": (
        "/compatibility/v1",
        "/compatibility/v1/chat/completions",
        "/v1/models?endpoint=chat&page_size=1000",
    ),
    "openrouter": ("/api/v1", "/api/v1/chat/completions", "/api/v1/models"),
    "groq": ("/openai/v1", "/openai/v1/chat/completions", "/openai/v1/models"),
    "perplexity": ("", "/chat/completions", "/models"),
    "deepseek": ("", "/chat/completions", "/models"),
    "fireworks": ("/inference/v1", "/inference/v1/chat/completions", "/inference/v1/models"),
}
"""For each provider, the paths of its base URL, its chat endpoint and its list of models."""


def paths(name: str) -> tuple[str, str, str]:
    return PATHS.get(name, ("/v1", "/v1/chat/completions", "/v1/models"))


def at(url: str, name: str = "openai", **settings: Any) -> ProviderSettings:
    return ProviderSettings(**{"api_key": KEY, "base_url": url + paths(name)[0], **settings})


def says(text: str, **fields: Any) -> Reply:
    """An answer of Chat Completions."""
    parts: list[dict[str, Any]] = [{"delta": {"role": "assistant", "content": ""}}, {"delta": {"content": text}}]
    parts.append({"delta": {}, "finish_reason": "stop"})
    return Reply([_chunk(part) for part in parts] + [b"data: [DONE]\n\n"], **fields)


def calls(name: str, arguments: dict[str, Any]) -> Reply:
    """An answer of Chat Completions that calls a tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    call = {"index": 0, "id": "call_1", "type": "function", "function": function}
    parts: list[dict[str, Any]] = [{"delta": {"tool_calls": [call]}}, {"delta": {}, "finish_reason": "tool_calls"}]
    return Reply([_chunk(part) for part in parts] + [b"data: [DONE]\n\n"])


def _chunk(part: dict[str, Any]) -> bytes:
    choice = {"index": 0, "finish_reason": None, **part}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return f"data: {json.dumps(body)}\n\n".encode()


def claude_says_four() -> Reply:
    """An answer of the Messages API."""
    return Reply([f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in EVENTS])


def lists(*models: str) -> Reply:
    return error_reply(200, {"object": "list", "data": [{"id": model, "object": "model"} for model in models]})


def fails(status: int, **headers: str) -> Reply:
    return error_reply(status, {"error": {"message": f"no, {KEY}", "type": "t", "code": None}}, **headers)
