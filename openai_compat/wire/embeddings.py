"""Embeddings as they are asked for and answered. Source: OpenAI's OpenAPI document and its SDK's types."""

from __future__ import annotations

import base64
import math
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, cast

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import Field
from typing_extensions import TypedDict

from ..backend import CHARACTERS_PER_TOKEN
from ..errors import AgentError, InvalidRequest
from .chat.request_types import WHOLE, WireModel
from .json import check_length, dumps, parse_object, validate

MAX_INPUTS = 2048
"""Texts or token lists that one request may have embedded, and tokens of a list that stands alone."""

MAX_DIMENSIONS = 65_536
"""Longest vector that can be asked for: far beyond any model's, and no work for an embed function that makes it."""

InputText = Annotated[str, MinLen(1)]
Token = Annotated[int, Ge(0)]
Texts = Annotated[list[InputText], Field(fail_fast=True), MinLen(1), MaxLen(MAX_INPUTS)]
Tokens = Annotated[list[Token], Field(fail_fast=True), MinLen(1)]  # or a body of wrong ones would become as many errors
SeveralTokens = Annotated[list[Tokens], Field(fail_fast=True), MinLen(1), MaxLen(MAX_INPUTS)]


class EmbeddingRequest(WireModel):
    """The body of `POST /v1/embeddings`."""

    model: Annotated[str, MinLen(1)]
    input: InputText | Texts | Annotated[Tokens, MaxLen(MAX_INPUTS)] | SeveralTokens
    dimensions: Annotated[int, Ge(1), Le(MAX_DIMENSIONS), WHOLE] | None = None
    # OpenAI's SDK asks for base64 unless its caller wants something else.
    encoding_format: Literal["float", "base64"] | None = None
    user: str | dict[str, Any] | None = None


class Embedding(TypedDict):
    """One vector: numbers, or their bytes (float32, little-endian) as base64 text."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(TypedDict):
    """Tokens of the inputs; estimated where they came as text."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(TypedDict):
    """The vectors, in the order of the inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


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
    # Vectors of another length would be stored by the client, and be of no use.
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
    # A number that is finite in 64 bits may be infinite in 32.
    if not is_finite(floats):
        raise AgentError("The embed function returned numbers that are too large.", code="invalid_embedding")
    # SDKs read the bytes as little-endian float32, as they come from OpenAI.
    if sys.byteorder == "big":
        floats.byteswap()
    return base64.b64encode(floats.tobytes()).decode()


Vector: TypeAlias = "array[float]"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingInput:
    """The inputs to embed: texts, or, from clients that have a tokenizer, lists of token numbers; never both.

    `dimensions` is how long the vectors are to be, None if that is left to the function.
    """

    texts: tuple[str, ...] = ()
    tokens: tuple[tuple[int, ...], ...] = ()
    dimensions: int | None = None
    user: str | None = None

    @property
    def number(self) -> int:
        """The number of vectors that the inputs make, one for each."""
        return len(self.texts) or len(self.tokens)


def tokens_read(asked: EmbeddingInput) -> int:
    """How many tokens were read: counted, or, of texts, estimated."""
    texts = sum([-(-len(text) // CHARACTERS_PER_TOKEN) for text in asked.texts])
    return texts + sum(map(len, asked.tokens))


def is_finite(vector: Vector) -> bool:
    """True if all are numbers. Their sum tells, which is faster than looking at each, unless it is itself too large."""
    return math.isfinite(sum(vector)) or all(map(math.isfinite, vector))
