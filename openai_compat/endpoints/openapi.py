"""`GET /openapi.json`: the API, described from the very types that parse and answer."""

from __future__ import annotations

import functools
from typing import Any, cast

from ..exchange import Exchange
from ..protocol.chat_request import ChatCompletionRequest, CompletionRequest
from ..protocol.chat_response import ChatCompletion, ChatCompletionChunk
from ..protocol.completion_response import Completion
from ..protocol.conversations import (
    ConversationCreate,
    ConversationItems,
    ConversationObject,
    DeletedConversation,
    ItemPage,
)
from ..protocol.embeddings import EmbeddingList, EmbeddingRequest
from ..protocol.errors import ErrorEnvelope
from ..protocol.files import DeletedFile, File, FilePage
from ..protocol.models import Model, ModelList
from ..protocol.stored import CompletionPage, Deleted, KeptConversation, MessagePage, MetadataUpdate
from ..runtime import Runtime
from ..serializers.encoding import dumps
from ..version import __version__
from .openapi_paths import REF, paths

REQUESTS = (
    ChatCompletionRequest,
    CompletionRequest,
    ConversationCreate,
    ConversationItems,
    EmbeddingRequest,
    MetadataUpdate,
)
ANSWERS: tuple[Any, ...] = (
    ChatCompletion,
    ChatCompletionChunk,
    Completion,
    CompletionPage,
    ConversationObject,
    Deleted,
    DeletedConversation,
    DeletedFile,
    EmbeddingList,
    ErrorEnvelope,
    File,
    FilePage,
    ItemPage,
    KeptConversation,
    MessagePage,
    Model,
    ModelList,
)


async def document(runtime: Runtime, exchange: Exchange) -> None:
    """The OpenAPI 3.1 document. Needs no key."""
    await exchange.answer(200, dumps(_document()))


@functools.cache
def _document() -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "openai-compat",
            "version": __version__,
            "description": "Agents behind the OpenAI API. Models are agents.",
        },
        "security": [{"bearer": []}],
        "paths": paths(),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas() -> dict[str, Any]:
    from pydantic import TypeAdapter  # noqa: PLC0415  (importing the library should not take the time this takes)
    from pydantic.json_schema import JsonSchemaMode, models_json_schema  # noqa: PLC0415

    _, requests = models_json_schema([(request, "validation") for request in REQUESTS], ref_template=REF)
    inputs: list[tuple[Any, JsonSchemaMode, TypeAdapter[Any]]] = [
        (answer.__name__, "serialization", TypeAdapter(answer)) for answer in ANSWERS
    ]
    _, answers = TypeAdapter.json_schemas(inputs, ref_template=REF)
    schemas: dict[str, Any] = _overlapping({**requests["$defs"], **answers["$defs"]})
    return schemas


def _overlapping(schema: Any) -> Any:
    """The same with `anyOf` for unions that a function tells apart: more than one of their members may fit."""
    if isinstance(schema, list):
        return [_overlapping(item) for item in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    fields = cast("dict[str, Any]", schema)
    apart = "discriminator" in fields
    return {"anyOf" if key == "oneOf" and not apart else key: _overlapping(value) for key, value in fields.items()}
