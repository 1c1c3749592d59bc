"""Ollama's API in the OpenAPI document."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from ...wire.ollama.answer_types import (
    ChatLine,
    EmbedAnswer,
    GenerateLine,
    OldEmbedAnswer,
    OllamaError,
    ShowAnswer,
    TagsAnswer,
    VersionAnswer,
)
from ...wire.ollama.request_types import (
    EmbedRequest,
    GenerateRequest,
    OldEmbedRequest,
    OllamaChatRequest,
    OllamaModelRequest,
)
from ..openapi_schemas import schemas_of

PREFIX = "Ollama"
REQUESTS = (OllamaChatRequest, GenerateRequest, EmbedRequest, OldEmbedRequest, OllamaModelRequest)
ANSWERS = (ChatLine, GenerateLine, EmbedAnswer, OldEmbedAnswer, VersionAnswer, TagsAnswer, ShowAnswer, OllamaError)
ERROR = "OllamaError"


@functools.cache
def schemas() -> Mapping[str, Any]:
    """The schemas that the routes refer to."""
    return schemas_of(PREFIX, REQUESTS, ANSWERS)


def schema_content(name: str, *kinds: str) -> Mapping[str, Any]:
    """Content with a named schema, of the media types `kinds`; JSON if none is given."""
    schema = {"schema": {"$ref": f"#/components/schemas/{PREFIX}{name}"}}
    return dict.fromkeys(kinds or ("application/json",), schema)


def json_or_lines(name: str) -> Mapping[str, Any]:
    """Content of an answer that is whole, or in lines."""
    return schema_content(name, "application/json", "application/x-ndjson")
