"""`POST /v1/embeddings`: bytes to what is to be embedded, and how the vectors are to be written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from ..errors import InvalidRequest
from .body import check_length, parse_object, validate
from .embedding_values import EmbeddingInput
from .embeddings_types import MAX_INPUTS, EmbeddingRequest


@dataclass(frozen=True, slots=True)
class ParsedEmbedding:
    """A request for embeddings, checked. `base64` is how the vectors are to be written."""

    model: str
    asked: EmbeddingInput
    base64: bool


def parse_embedding(body: bytes) -> ParsedEmbedding:
    """The request in `body`. Raises InvalidRequest with the `param` at fault."""
    raw = parse_object(body)
    check_length("input", raw.get("input"), MAX_INPUTS)
    wire = validate(EmbeddingRequest, raw)
    texts, tokens = _inputs(wire)
    user = wire.user if isinstance(wire.user, str) else None
    asked = EmbeddingInput(texts=texts, tokens=tokens, dimensions=wire.dimensions, user=user)
    return ParsedEmbedding(wire.model, asked, wire.encoding_format == "base64")


def check_taken(asked: EmbeddingInput, takes: frozenset[str]) -> None:
    """Raise InvalidRequest about what was sent and the embed function has no parameter for."""
    if asked.tokens and "tokens" not in takes:
        text = "This model takes texts, not tokens."
        raise InvalidRequest(text, param="input", code="unsupported_value")
    if asked.dimensions is not None and "dimensions" not in takes:
        text = "The vectors of this model have one length only."
        raise InvalidRequest(text, param="dimensions", code="unsupported_parameter")


def _inputs(wire: EmbeddingRequest) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Texts, or lists of tokens: one of these stands for itself."""
    sent = wire.input if isinstance(wire.input, list) else [wire.input]
    if isinstance(sent[0], str):
        return tuple(cast("list[str]", sent)), ()
    if isinstance(sent[0], int):
        return (), (tuple(cast("list[int]", sent)),)
    return (), tuple([tuple(numbers) for numbers in cast("list[list[int]]", sent)])
