"""Vectors as the embeddings API writes them."""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Sequence

from ..errors import AgentError
from .embedding_values import Vector, is_finite
from .embeddings_types import Embedding, EmbeddingList
from .json import dumps


def embedding_list(model: str, vectors: Sequence[Vector], tokens: int, *, as_base64: bool) -> bytes:
    """The answer; `tokens` were read. Raises AgentError (500 `invalid_embedding`) for numbers that float32 cannot hold."""
    data: list[Embedding] = [
        {"object": "embedding", "index": index, "embedding": _base64(vector) if as_base64 else vector.tolist()}
        for index, vector in enumerate(vectors)
    ]
    answer: EmbeddingList = {
        "object": "list",
        "data": data,
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return dumps(answer)


def _base64(vector: Vector) -> str:
    floats = array("f", vector)
    if not is_finite(floats):
        raise AgentError("The embed function returned numbers that are too large.", code="invalid_embedding")
    if sys.byteorder == "big":
        floats.byteswap()
    return base64.b64encode(floats.tobytes()).decode()
