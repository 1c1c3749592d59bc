"""Embeddings as they are asked for and answered. Source: OpenAI's OpenAPI document and its SDK's types."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import Field
from typing_extensions import TypedDict

from .chat.request_types import WHOLE, WireModel

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
    encoding_format: Literal["float", "base64"] | None = None
    user: str | dict[str, Any] | None = None


class Embedding(TypedDict):
    """One vector: numbers, or their bytes (float32, little-endian) as base64 text."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(TypedDict):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(TypedDict):
    """The vectors, in the order of the inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
