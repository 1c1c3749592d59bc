"""`GET /openapi.json`: the API, described from the types that parse requests and write answers."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast
from urllib.parse import quote

from ..aio.off_loop import run_off_loop
from ..package import __version__
from ..wire.chat.request_types import ChatCompletionRequest, CompletionRequest, WireModel
from ..wire.chat.response_types import ChatCompletion, ChatCompletionChunk, TextCompletion
from ..wire.chat.stored_types import CompletionPage, Deleted, KeptConversation, MessagePage, MetadataUpdate
from ..wire.conversations import (
    ConversationCreate,
    ConversationItems,
    ConversationObject,
    DeletedConversation,
    ItemPage,
)
from ..wire.decisions.request_types import DecisionRequest
from ..wire.decisions.serialize import DecisionResult
from ..wire.embeddings import EmbeddingList, EmbeddingRequest
from ..wire.errors import ErrorEnvelope
from ..wire.files import EXPIRY_RANGE, PURPOSES, DeletedFile, File, FilePage
from ..wire.json import dumps
from ..wire.models import Model, ModelList
from ..wire.responses.event_types import StreamEvent
from ..wire.responses.parse.request import COMPACT_FIELDS, TOKEN_FIELDS
from ..wire.responses.request_types import ResponseRequest
from ..wire.responses.response_types import CompactedResponse, DeletedResponse, InputItemPage, InputTokens, Response
from .exchange import Exchange
from .openapi_rules import with_rules
from .routing import Operation, Route
from .services import Services

REF = "#/components/schemas/{model}"

KEYS: Sequence[Mapping[str, Any]] = ({"bearer": []}, {"apiKey": []})
COOKIE: Mapping[str, Any] = {"cookie": []}
"""The ways to send the key: any one of them will do."""

NAME: Mapping[str, Any] = {"type": "string", "minLength": 1}

Content = Mapping[str, Any]
"""Schemas by media type."""

FORM: Final[Content] = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {
                "file": {"type": "string", "format": "binary", "minLength": 1},
                "purpose": {"enum": list(PURPOSES)},
                "expires_after[anchor]": {"const": "created_at"},
                "expires_after[seconds]": {"type": "integer", "minimum": EXPIRY_RANGE[0], "maximum": EXPIRY_RANGE[-1]},
            },
            "required": ["file", "purpose"],
            "dependentRequired": {
                "expires_after[anchor]": ["expires_after[seconds]"],
                "expires_after[seconds]": ["expires_after[anchor]"],
            },
        }
    }
}

REQUESTS: tuple[type[WireModel], ...] = (
    ChatCompletionRequest,
    CompletionRequest,
    ConversationCreate,
    ConversationItems,
    DecisionRequest,
    EmbeddingRequest,
    MetadataUpdate,
    ResponseRequest,
)
PARTIAL_REQUESTS: Mapping[str, frozenset[str]] = {"CompactRequest": COMPACT_FIELDS, "InputTokensRequest": TOKEN_FIELDS}
"""Request types with some of the fields of ResponseRequest."""
TITLES: Mapping[str, str] = {"File": "FileObject", "Response": "ResponseObject"}
"""Titles of schemas whose names generators use for their own classes."""
EVENT: Mapping[str, Any] = {
    "type": "object",
    "description": "An event of a stream. Its data is JSON, or `[DONE]`.",
    "properties": {"id": {"type": "string"}, "event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}
REF_PREFIX = REF.format(model="")
ANSWERS: Mapping[str, Any] = {
    "ChatCompletion": ChatCompletion,
    "ChatCompletionChunk": ChatCompletionChunk,
    "CompactedResponse": CompactedResponse,
    "TextCompletion": TextCompletion,
    "CompletionPage": CompletionPage,
    "ConversationObject": ConversationObject,
    "DecisionResult": DecisionResult,
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


async def send_document(routes: Sequence[Route], needs_key: bool, services: Services, exchange: Exchange) -> None:
    """The OpenAPI 3.1 document of these routes. Needs no key."""
    # Building the first one would block other requests for too long, and anybody may request it.
    await exchange.answer(200, await run_off_loop(_build_document, routes, needs_key, services, exchange.request.root))


def _build_document(routes: Sequence[Route], needs_key: bool, services: Services, root: str) -> bytes:
    schemas, about = with_rules(_schemas(), services.settings.limits), services.settings.chat_rest
    if about is not None:
        from .chat_rest import openapi as chat_rest  # noqa: PLC0415  (APIs are imported when they are served)

        schemas = {**schemas, **chat_rest.schemas()}
    for api in {route.api: None for route in routes if route.api is not None}:
        schemas = schemas if api.schemas is None else {**schemas, **api.schemas()}
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "openai-compat",
            "version": __version__,
            "description": "Agents behind the OpenAI API. Models are agents.",
        },
        # The path where it is mounted: clients put this before each path.
        "servers": [{"url": quote(root) or "/"}],
        "paths": path_items(routes),
        "components": {
            "schemas": {
                # Generators derive class names from titles.
                name: {**schema, "title": TITLES.get(name, name)} if "title" in schema else schema
                for name, schema in schemas.items()
            }
        },
    }
    if needs_key:
        found["security"] = KEYS
        found["components"]["securitySchemes"] = _key_schemes(None if about is None else about.cookie)
    return dumps(found)


def build_request_models() -> None:
    """Build the validators of request bodies. Importing skips this, and the first requests would have to wait for it."""
    for model in REQUESTS:
        model.model_rebuild()


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

    requests = {request.__name__: request for request in REQUESTS} | {
        name: _partial_request(name) for name in PARTIAL_REQUESTS
    }
    inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        *[(name, "validation", TypeAdapter(request)) for name, request in requests.items()],
        *[(name, "serialization", TypeAdapter(answer)) for name, answer in ANSWERS.items()],
    ]
    found, shared = TypeAdapter.json_schemas(inputs, ref_template=REF)
    unions = {name: schema for (name, _), schema in found.items() if "$ref" not in schema}
    named = {**shared["$defs"], **unions, "ServerSentEvent": EVENT}
    return {_readable_name(name): _readable_schema(schema) for name, schema in named.items()}


def _partial_request(name: str) -> type[WireModel]:
    """A request type with some of the fields of ResponseRequest."""
    from pydantic import create_model  # noqa: PLC0415

    fields = {key: field for key, field in ResponseRequest.model_fields.items() if key in PARTIAL_REQUESTS[name]}
    taken: dict[str, Any] = {key: (field.annotation, field) for key, field in fields.items()}
    return create_model(name, __base__=WireModel, **taken)


def _readable_name(name: str) -> str:
    """A readable name: pydantic adds the direction to the name of a type that is both read and written."""
    own, _, direction = name.partition("-")
    return own + ("Param" if direction == "Input" else "")


def _readable_schema(schema: Any) -> Any:
    """The schema with readable names, and `anyOf` for unions without a discriminator: several members may fit."""
    if isinstance(schema, list):
        return [_readable_schema(item) for item in cast("list[Any]", schema)]
    if isinstance(schema, str) and schema.startswith(REF_PREFIX):
        return REF_PREFIX + _readable_name(schema.removeprefix(REF_PREFIX))
    if not isinstance(schema, dict):
        return schema
    fields = cast("dict[str, Any]", schema)
    apart = "discriminator" in fields
    return {"anyOf" if key == "oneOf" and not apart else key: _readable_schema(value) for key, value in fields.items()}


def json_content(name: str, prefix: str = "") -> Content:
    """JSON content with a named schema."""
    return {"application/json": {"schema": {"$ref": REF.format(model=prefix + name)}}}


def json_or_events(whole: str | None, event: str, prefix: str = "") -> Content:
    """JSON of one schema or, streamed, events whose data is JSON of another. Some tools validate the event itself."""
    plain: Content = {} if whole is None else json_content(whole, prefix)
    schemas = [{"$ref": REF.format(model=name)} for name in (prefix + event, "ServerSentEvent")]
    return {**plain, "text/event-stream": {"schema": {"anyOf": schemas}}}


def path_items(routes: Iterable[Route]) -> dict[str, Any]:
    """All described routes, with their operations. Operations of several APIs on one path are merged into one."""
    found: dict[str, Any] = {}
    # The operation gets its name from the route that accepts every request; the answers of the others are added.
    for route in sorted(routes, key=lambda route: route.when is not None):
        if not (route.described and route.operations):
            continue
        on_path = found.setdefault(route.shown_path, {})
        for method, operation in route.operations.items():
            described, known = _describe_operation(route, operation), on_path.get(method.lower())
            on_path[method.lower()] = described if known is None else _merge_operations(known, described)
    return found


def _merge_operations(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Merge two operations of one path, where headers decide which API answers."""
    responses: dict[str, Any] = dict(one["responses"])
    for status, answer in other["responses"].items():
        content = dict(responses.setdefault(status, answer)["content"])
        for kind, body in answer["content"].items():
            known = content.get(kind, body)["schema"]
            schemas: list[Any] = known.get("anyOf", [known])
            content[kind] = {"schema": {"anyOf": [*schemas, *([] if body["schema"] in schemas else [body["schema"]])]}}
        responses[status] = {**responses[status], "content": content}
    parameters = [*one.get("parameters", ())]
    parameters += [parameter for parameter in other.get("parameters", ()) if parameter not in parameters]
    return {**one, "responses": responses, **({"parameters": parameters} if parameters else {})}


def _describe_operation(route: Route, operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.id, "summary": operation.summary}
    if route.open:
        # An empty list removes the security that the document sets for all operations (OpenAPI 3.1, Operation Object).
        described["security"] = []
    elif route.cookie:
        described["security"] = [*KEYS, COOKIE]
    parameters = [
        *[{"name": name, "in": "path", "required": True, "schema": NAME} for name in route.parameters],
        *[{"name": name, "in": "query", "schema": schema} for name, schema in operation.query.items()],
    ]
    if parameters:
        described["parameters"] = parameters
    if operation.body:
        described["requestBody"] = {"required": True, "content": operation.body}
    found = {
        str(status): {"description": text, "content": content} for status, (text, content) in operation.more.items()
    }
    error = "ErrorEnvelope" if route.api is None else route.api.error_schema
    described["responses"] = {
        str(operation.status): {"description": "The answer", "content": operation.answer},
        **found,
        "default": {"description": "An error", "content": json_content(error)},
    }
    return described
