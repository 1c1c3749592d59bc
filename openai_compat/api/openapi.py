"""`GET /openapi.json`: the API, described from the very types that parse and answer."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import quote

from ..version import __version__
from ..wire.chat.completion_types import Completion
from ..wire.chat.request_types import ChatCompletionRequest, CompletionRequest, WireModel
from ..wire.chat.response_types import ChatCompletion, ChatCompletionChunk
from ..wire.conversations_types import (
    ConversationCreate,
    ConversationItems,
    ConversationObject,
    DeletedConversation,
    ItemPage,
)
from ..wire.embeddings_types import EmbeddingList, EmbeddingRequest
from ..wire.error_types import ErrorEnvelope
from ..wire.files_types import DeletedFile, File, FilePage
from ..wire.json import dumps
from ..wire.models_types import Model, ModelList
from ..wire.responses.answer_types import CompactedResponse, DeletedResponse, InputItemPage, InputTokens
from ..wire.responses.event_types import StreamEvent
from ..wire.responses.parse.request import COMPACT_FIELDS, TOKEN_FIELDS
from ..wire.responses.request_types import ResponseRequest
from ..wire.responses.response_types import Response
from ..wire.stored_types import CompletionPage, Deleted, KeptConversation, MessagePage, MetadataUpdate
from .chat_rest import openapi as chat_api
from .exchange import Exchange
from .openapi_paths import KEYS, REF, paths
from .openapi_rules import with_rules
from .routing import Route
from .services import Runtime

REQUESTS: tuple[type[WireModel], ...] = (
    ChatCompletionRequest,
    CompletionRequest,
    ConversationCreate,
    ConversationItems,
    EmbeddingRequest,
    MetadataUpdate,
    ResponseRequest,
)
PARTS: Mapping[str, frozenset[str]] = {"CompactRequest": COMPACT_FIELDS, "InputTokensRequest": TOKEN_FIELDS}
"""Requests that have some of the fields of ResponseRequest."""
TITLES: Mapping[str, str] = {"File": "FileObject", "Response": "ResponseObject"}
"""Of schemas whose names generators use for classes of their own."""
EVENT: Mapping[str, Any] = {
    "type": "object",
    "description": "An event of a stream. Its data is JSON, or `[DONE]`.",
    "properties": {"id": {"type": "string"}, "event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}
NAMED = REF.format(model="")
PREFIXES: Mapping[str, str] = {"chat": "Chat", "items": "Item", "responses": "Response"}
"""Before the names that several modules have, by module."""
ANSWERS: Mapping[str, Any] = {
    "ChatCompletion": ChatCompletion,
    "ChatCompletionChunk": ChatCompletionChunk,
    "CompactedResponse": CompactedResponse,
    "Completion": Completion,
    "CompletionPage": CompletionPage,
    "ConversationObject": ConversationObject,
    "Deleted": Deleted,
    "DeletedConversation": DeletedConversation,
    "DeletedFile": DeletedFile,
    "DeletedResponse": DeletedResponse,
    "EmbeddingList": EmbeddingList,
    "ErrorEnvelope": ErrorEnvelope,
    "File": File,
    "FilePage": FilePage,
    "InputItemPage": InputItemPage,
    "InputTokens": InputTokens,
    "ItemPage": ItemPage,
    "KeptConversation": KeptConversation,
    "MessagePage": MessagePage,
    "Model": Model,
    "ModelList": ModelList,
    "Response": Response,
    "ResponseStreamEvent": StreamEvent,
}


async def document(routes: Sequence[Route], needs_key: bool, runtime: Runtime, exchange: Exchange) -> None:
    """The OpenAPI 3.1 document of these routes. Needs no key."""
    schemas, about = with_rules(_schemas(), runtime.limits), runtime.chat_api
    if about is not None:
        schemas = {**schemas, **chat_api.schemas()}
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "openai-compat",
            "version": __version__,
            "description": "Agents behind the OpenAI API. Models are agents.",
        },
        "servers": [{"url": quote(exchange.request.root) or "/"}],
        "paths": paths(routes),
        "components": {"schemas": {name: _titled(name, schema) for name, schema in schemas.items()}},
    }
    if needs_key:
        found["security"] = KEYS
        found["components"]["securitySchemes"] = _key_schemes(None if about is None else about.cookie)
    await exchange.answer(200, dumps(found))


def _titled(name: str, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema with its own name for a title, of which generators make the names of classes."""
    return {**schema, "title": TITLES.get(name, name)} if "title" in schema else schema


def _key_schemes(cookie: str | None) -> dict[str, Any]:
    schemes: dict[str, Any] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "apiKey": {"type": "apiKey", "in": "header", "name": "api-key"},
    }
    return schemes if cookie is None else {**schemes, "cookie": {"type": "apiKey", "in": "cookie", "name": cookie}}


@functools.cache
def _schemas() -> dict[str, Any]:
    from pydantic import TypeAdapter  # noqa: PLC0415  (importing the library should not take the time this takes)
    from pydantic.json_schema import JsonSchemaMode  # noqa: PLC0415

    requests = {request.__name__: request for request in REQUESTS} | {name: _part(name) for name in PARTS}
    inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        *[(name, "validation", TypeAdapter(request)) for name, request in requests.items()],
        *[(name, "serialization", TypeAdapter(answer)) for name, answer in ANSWERS.items()],
    ]
    found, shared = TypeAdapter.json_schemas(inputs, ref_template=REF)
    unions = {name: schema for (name, _), schema in found.items() if "$ref" not in schema}
    named = {**shared["$defs"], **unions, "ServerSentEvent": EVENT}
    return {_plain(name): _readable(schema) for name, schema in named.items()}


def _part(name: str) -> type[WireModel]:
    """A request with some of the fields of ResponseRequest."""
    from pydantic import create_model  # noqa: PLC0415

    fields = {key: field for key, field in ResponseRequest.model_fields.items() if key in PARTS[name]}
    taken: dict[str, Any] = {key: (field.annotation, field) for key, field in fields.items()}
    return create_model(name, __base__=WireModel, **taken)


def _plain(name: str) -> str:
    """A name that people would give: of two that are alike pydantic tells the whole module, or the direction."""
    *_, folder, _module, own = ["", "", *name.split("__")]
    own, _, direction = own.partition("-")
    return PREFIXES.get(folder, "") + own + ("Param" if direction == "Input" else "")


def _readable(schema: Any) -> Any:
    """The same with plain names, and `anyOf` for unions that a function tells apart: several members may fit."""
    if isinstance(schema, list):
        return [_readable(item) for item in cast("list[Any]", schema)]
    if isinstance(schema, str) and schema.startswith(NAMED):
        return NAMED + _plain(schema.removeprefix(NAMED))
    if not isinstance(schema, dict):
        return schema
    fields = cast("dict[str, Any]", schema)
    apart = "discriminator" in fields
    return {"anyOf" if key == "oneOf" and not apart else key: _readable(value) for key, value in fields.items()}
