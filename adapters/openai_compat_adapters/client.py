"""Real OpenAI clients on a server in the same process.

client = async_openai(server)                    an openai.AsyncOpenAI
client = sync_openai(server)                     an openai.OpenAI
"""

from __future__ import annotations

from typing import Any

import httpx2
import openai

from openai_compat import Server

from .transport import AsyncTransport, SyncTransport

BASE_URL = "http://localhost/v1"


def async_openai(server: Server, **options: Any) -> openai.AsyncOpenAI:
    """An `openai.AsyncOpenAI` that talks to `server`; `options` are its own (`api_key`, `max_retries` …)."""
    http_client = httpx2.AsyncClient(transport=AsyncTransport(server))
    return openai.AsyncOpenAI(**{"base_url": BASE_URL, "api_key": "in-process", "http_client": http_client, **options})


def sync_openai(server: Server, **options: Any) -> openai.OpenAI:
    """An `openai.OpenAI` that talks to `server`; the server runs on an event loop in a thread beside."""
    http_client = httpx2.Client(transport=SyncTransport(server))
    return openai.OpenAI(**{"base_url": BASE_URL, "api_key": "in-process", "http_client": http_client, **options})
