"""`GET /openapi.json`: the API, described from the very types that parse and answer."""

from __future__ import annotations

import functools
from typing import Any

from ..exchange import Exchange
from ..protocol.chat_request import ChatCompletionRequest, CompletionRequest
from ..protocol.chat_response import ChatCompletion, ChatCompletionChunk
from ..protocol.completion_response import Completion
from ..protocol.errors import ErrorEnvelope
from ..protocol.models import Model, ModelList
from ..protocol.stored import CompletionPage, Deleted, KeptConversation, MessagePage, MetadataUpdate
from ..runtime import Runtime
from ..serializers.encoding import dumps
from ..version import __version__

REF = "#/components/schemas/{model}"
REQUESTS = (ChatCompletionRequest, CompletionRequest, MetadataUpdate)
ANSWERS: tuple[Any, ...] = (
    ChatCompletion,
    ChatCompletionChunk,
    Completion,
    CompletionPage,
    Deleted,
    ErrorEnvelope,
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
        "paths": _paths(),
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
    return {**requests["$defs"], **answers["$defs"]}


def _paths() -> dict[str, Any]:
    chat = _created("ChatCompletionRequest", "ChatCompletion", "ChatCompletionChunk")
    model = _path_parameter("model")
    return {
        "/v1/chat/completions": {
            "post": {"summary": "Ask an agent", **chat},
            "get": {"summary": "List stored chat completions", **_responses("CompletionPage")},
        },
        "/v1/completions": {
            "post": {"summary": "Ask with a bare prompt", **_created("CompletionRequest", "Completion", "Completion")}
        },
        **_stored_paths(),
        "/v1/models": {"get": {"summary": "List the agents", **_responses("ModelList")}},
        "/v1/models/{model}": {"get": {"summary": "Get an agent", "parameters": [model], **_responses("Model")}},
        "/healthz": {"get": {"summary": "Alive?", "security": [], "responses": {"200": {"description": "Yes"}}}},
        "/readyz": {"get": {"summary": "Taking new turns?", "security": [], "responses": _yes_or_no()}},
    }


def _stored_paths() -> dict[str, Any]:
    stored = {"parameters": [_path_parameter("completion_id")]}
    conversation = {"parameters": [_path_parameter("conversation_id")]}
    update = {"required": True, "content": {"application/json": {"schema": _ref("MetadataUpdate")}}}
    return {
        "/v1/chat/completions/{completion_id}": {
            "get": {"summary": "Get a stored chat completion", **stored, **_responses("ChatCompletion")},
            "post": {"summary": "Change its metadata", **stored, "requestBody": update, **_responses("ChatCompletion")},
            "delete": {"summary": "Delete it", **stored, **_responses("Deleted")},
        },
        "/v1/chat/completions/{completion_id}/messages": {
            "get": {"summary": "List the messages it was made from", **stored, **_responses("MessagePage")},
        },
        "/v1/chat/conversations/{conversation_id}": {
            "get": {"summary": "Get a conversation that is kept", **conversation, **_responses("KeptConversation")},
            "delete": {"summary": "Delete it", **conversation, **_responses("Deleted")},
        },
    }


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _yes_or_no() -> dict[str, Any]:
    return {"200": {"description": "Yes"}, "503": _error("Shutting down")}


def _created(request: str, whole: str, chunk: str) -> dict[str, Any]:
    body = {"required": True, "content": {"application/json": {"schema": _ref(request)}}}
    answer = _responses(whole)
    answer["responses"]["200"]["content"]["text/event-stream"] = {"schema": _ref(chunk)}
    return {"requestBody": body, **answer}


def _responses(name: str) -> dict[str, Any]:
    found = {"description": "The answer", "content": {"application/json": {"schema": _ref(name)}}}
    return {"responses": {"200": found, "default": _error("An error")}}


def _error(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": _ref("ErrorEnvelope")}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": REF.format(model=name)}
