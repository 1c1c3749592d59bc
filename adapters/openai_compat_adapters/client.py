"""Real OpenAI clients of a server in the same process.

client = async_openai(server)                    an openai.AsyncOpenAI
client = sync_openai(server)                     an openai.OpenAI
"""

from __future__ import annotations

from typing import Any

from openai_compat import Server
from openai_compat.package import needs

with needs(__name__):
    import httpx2
    import openai

    from .transport import AsyncTransport, SyncTransport

__all__ = ("async_openai", "sync_openai")

# Without a key here, the SDK uses OPENAI_API_KEY, or raises if that is not set.
DEFAULTS: dict[str, Any] = {"base_url": "http://localhost/v1", "api_key": "in-process"}


def async_openai(server: Server, **options: Any) -> openai.AsyncOpenAI:
    """An `openai.AsyncOpenAI` that talks to `server`; `options` are its own (`api_key`, `max_retries` …)."""
    http_client = httpx2.AsyncClient(transport=AsyncTransport(server))
    return openai.AsyncOpenAI(http_client=http_client, **DEFAULTS | options)


def sync_openai(server: Server, **options: Any) -> openai.OpenAI:
    """An `openai.OpenAI` that talks to `server`, which runs in an event loop in another thread."""
    http_client = httpx2.Client(transport=SyncTransport(server))
    return openai.OpenAI(http_client=http_client, **DEFAULTS | options)
