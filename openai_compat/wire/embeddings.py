"""Requests and responses of the embeddings API. Source: OpenAI's OpenAPI document and its SDK's types."""

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
"""Maximum number of texts or token lists in one request, and of tokens in a single list."""

MAX_DIMENSIONS = 65_536
"""Longest vector that can be requested: far above any model's, yet cheap for an embed function that fills it."""

InputText = Annotated[str, MinLen(1)]
Token = Annotated[int, Ge(0)]
Texts = Annotated[list[InputText], Field(fail_fast=True), MinLen(1), MaxLen(MAX_INPUTS)]
Tokens = Annotated[list[Token], Field(fail_fast=True), MinLen(1)]  # or each wrong token would be an error
SeveralTokens = Annotated[list[Tokens], Field(fail_fast=True), MinLen(1), MaxLen(MAX_INPUTS)]


class EmbeddingRequest(WireModel):
    """The body of `POST /v1/embeddings`."""

    model: Annotated[str, MinLen(1)]
    input: InputText | Texts | Annotated[Tokens, MaxLen(MAX_INPUTS)] | SeveralTokens
    dimensions: Annotated[int, Ge(1), Le(MAX_DIMENSIONS), WHOLE] | None = None
    # OpenAI's SDK requests base64 unless its caller sets another format.
    encoding_format: Literal["float", "base64"] | None = None
    user: str | dict[str, Any] | None = None


class Embedding(TypedDict):
    """One vector: numbers, or their bytes (float32, little-endian) as base64 text."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(TypedDict):
    """Token counts of the inputs; estimated for text inputs."""

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
    """A validated embeddings request. `base64` is True if the vectors are to be encoded as base64."""

    model: str
    asked: EmbeddingInput
    base64: bool


def parse_embedding(body: bytes) -> ParsedEmbedding:
    """Parse `body`. Raises InvalidRequest with the `param` at fault."""
    raw = parse_object(body)
    check_length("input", raw.get("input"), MAX_INPUTS)
    wire = validate(EmbeddingRequest, raw)
    texts, tokens = _inputs(wire)
    user = wire.user if isinstance(wire.user, str) else None
    asked = EmbeddingInput(texts=texts, tokens=tokens, dimensions=wire.dimensions, user=user)
    return ParsedEmbedding(wire.model, asked, wire.encoding_format == "base64")


def check_embedding_parameters(asked: EmbeddingInput, takes: frozenset[str]) -> None:
    """Raise InvalidRequest for a sent parameter that the embed function does not accept."""
    if asked.tokens and "tokens" not in takes:
        text = "This model takes texts, not tokens."
        raise InvalidRequest(text, param="input", code="unsupported_value")
    # The client would store vectors of the wrong length, which are useless to it.
    if asked.dimensions is not None and "dimensions" not in takes:
        text = "The vectors of this model have one length only."
        raise InvalidRequest(text, param="dimensions", code="unsupported_parameter")


def _inputs(wire: EmbeddingRequest) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Return the texts or the token lists of a request; a single input becomes a list of one."""
    sent = wire.input if isinstance(wire.input, list) else [wire.input]
    if isinstance(sent[0], str):
        return tuple(cast("list[str]", sent)), ()
    if isinstance(sent[0], int):
        return (), (tuple(cast("list[int]", sent)),)
    return (), tuple([tuple(numbers) for numbers in cast("list[list[int]]", sent)])


def embedding_list(model: str, vectors: Sequence[Vector], tokens: int, *, as_base64: bool) -> bytes:
    """Encode the response; `tokens` is the input token count. Raises AgentError (500 `invalid_embedding`) on float32 overflow."""
    data: list[Embedding] = [
        {"object": "embedding", "index": index, "embedding": _to_base64(vector) if as_base64 else vector.tolist()}
        for index, vector in enumerate(vectors)
    ]
    answer: EmbeddingList = {
        "object": "list",
        "data": data,
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return dumps(answer)


def _to_base64(vector: Vector) -> str:
    floats = array("f", vector)
    # A number that is finite as float64 may overflow to infinity as float32.
    if not is_finite(floats):
        raise AgentError("The embed function returned numbers that are too large.", code="invalid_embedding")
    # SDKs decode the bytes as little-endian float32, the format that OpenAI sends.
    if sys.byteorder == "big":
        floats.byteswap()
    return base64.b64encode(floats.tobytes()).decode()


Vector: TypeAlias = "array[float]"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingInput:
    """The inputs to embed: either texts, or token lists from clients that have a tokenizer; never both.

    `dimensions` is the requested vector length; None leaves it to the embed function.
    """

    texts: tuple[str, ...] = ()
    tokens: tuple[tuple[int, ...], ...] = ()
    dimensions: int | None = None
    user: str | None = None

    @property
    def number(self) -> int:
        """The number of vectors to return, one per input."""
        return len(self.texts) or len(self.tokens)


def count_input_tokens(asked: EmbeddingInput) -> int:
    """Return the number of input tokens: exact for token lists, estimated for texts."""
    texts = sum([-(-len(text) // CHARACTERS_PER_TOKEN) for text in asked.texts])
    return texts + sum(map(len, asked.tokens))


def is_finite(vector: Vector) -> bool:
    """True if all numbers are finite. Their sum is tested first, which is faster; only if it overflows is each one tested."""
    return math.isfinite(sum(vector)) or all(map(math.isfinite, vector))
