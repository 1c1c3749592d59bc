"""`POST /api/embed`, and its older form `/api/embeddings`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...aio.off_loop import run_off_loop
from ...wire.embeddings import EmbeddingInput, Vector, check_embedding_parameters, count_input_tokens
from ...wire.json import dumps, is_quick
from ...wire.ollama.parse import parse_embed, parse_old_embed
from ..exchange import Exchange
from ..function_run import run_function
from ..services import Services
from .models import own_name

BuildAnswer = Callable[[str, EmbeddingInput, Sequence[Vector], int], Mapping[str, Any]]
"""Builds the answer from the requested model's name, the texts, the vectors, and the time in nanoseconds."""


async def embed(services: Services, exchange: Exchange) -> None:
    """One vector for each text."""
    await _embed(services, exchange, parse_embed, _embed_answer)


async def embed_one(services: Services, exchange: Exchange) -> None:
    """One vector for one text."""
    await _embed(services, exchange, parse_old_embed, _old_embed_answer)


async def _embed(
    services: Services,
    exchange: Exchange,
    parse: Callable[[bytes], tuple[str, EmbeddingInput]],
    build_answer: BuildAnswer,
) -> None:
    body = await exchange.read_body(services.settings.limits, services.settings.deadlines)
    model, asked = await run_off_loop(parse, body, long=not is_quick(body))
    await services.check_rate(exchange)
    name, embedder = services.models.embedder(own_name(services.models, model), exchange.principal)
    check_embedding_parameters(asked, embedder.takes)

    async def answer(vectors: Sequence[Vector]) -> None:
        await exchange.answer(200, dumps(build_answer(model, asked, vectors, int(exchange.seconds * 1e9))))

    if not asked.texts:  # a request that only loads the model
        await answer([])
        return
    call = functools.partial(embedder.embed, asked)
    await run_function(services, exchange, model=name, kind="embed function", call=call, answer=answer)


def _embed_answer(model: str, asked: EmbeddingInput, vectors: Sequence[Vector], nanoseconds: int) -> Mapping[str, Any]:
    return {
        "model": model,
        "embeddings": [vector.tolist() for vector in vectors],
        "total_duration": nanoseconds,
        "load_duration": 0,
        "prompt_eval_count": count_input_tokens(asked),
    }


def _old_embed_answer(
    model: str, asked: EmbeddingInput, vectors: Sequence[Vector], nanoseconds: int
) -> Mapping[str, Any]:
    del model, asked, nanoseconds
    return {"embedding": vectors[0].tolist() if vectors else []}
