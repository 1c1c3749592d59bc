"""Azure's paths: `/openai/deployments/{model}/…` names the model in the path, whatever the body says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from ..aio.off_loop import run_off_loop
from ..wire.json import dumps, is_quick, parse_object
from . import embeddings
from .chat import completions as chat_completions
from .chat import legacy_completions
from .exchange import Exchange
from .services import Services, Settings


async def chat(services: Services, exchange: Exchange, model: str) -> None:
    """`POST /chat/completions` of a deployment."""
    await _set_model(services.settings, exchange, model)
    await chat_completions.create(services, exchange)


async def complete(services: Services, exchange: Exchange, model: str) -> None:
    """`POST /completions` of a deployment."""
    await _set_model(services.settings, exchange, model)
    await legacy_completions.create(services, exchange)


async def embed(services: Services, exchange: Exchange, model: str) -> None:
    """`POST /embeddings` of a deployment."""
    await _set_model(services.settings, exchange, model)
    await embeddings.create(services, exchange)


async def _set_model(settings: Settings, exchange: Exchange, model: str) -> None:
    """Put the model into the request's body."""
    request = exchange.request
    body = await exchange.read_body(settings.limits, settings.deadlines)
    named = await run_off_loop(lambda: dumps({**parse_object(body), "model": model}), long=not is_quick(body))
    # Both describe the body as it was received, before it was decompressed.
    headers = [header for header in request.headers if header[0] not in (b"content-length", b"content-encoding")]

    async def new_body() -> AsyncIterator[bytes]:
        yield named

    exchange.request = replace(request, headers=headers, body=new_body())
