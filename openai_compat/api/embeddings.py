"""`POST /v1/embeddings`: vectors for texts, from the server's embed function."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from ..aio.off_loop import run_off_loop
from ..wire.embeddings import Vector, check_embedding_parameters, count_input_tokens, embedding_list, parse_embedding
from ..wire.json import is_quick
from .exchange import Exchange
from .function_run import run_function
from .services import Services


async def create(services: Services, exchange: Exchange) -> None:
    """Run an embed function and answer with its vectors."""
    body = await exchange.read_body(services.settings.limits, services.settings.deadlines)
    parsed = await run_off_loop(parse_embedding, body, long=not is_quick(body))
    await services.check_rate(exchange)
    name, embedder = services.models.embedder(parsed.model, exchange.principal)
    check_embedding_parameters(parsed.asked, embedder.takes)

    async def answer(vectors: Sequence[Vector]) -> None:
        # OpenAI's SDKs request base64 unless their caller says otherwise.
        listing = embedding_list(parsed.model, vectors, count_input_tokens(parsed.asked), as_base64=parsed.base64)
        await exchange.answer(200, listing)

    call = functools.partial(embedder.embed, parsed.asked)
    await run_function(services, exchange, model=name, kind="embed function", call=call, answer=answer)
