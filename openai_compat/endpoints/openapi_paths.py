"""The paths of the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..protocol.files import EXPIRY, PURPOSES

REF = "#/components/schemas/{model}"


def paths() -> dict[str, Any]:
    """All of them, in the order of the reference."""
    chat = _asked("ChatCompletionRequest", "ChatCompletion", "ChatCompletionChunk")
    model = _in_path("model")
    return {
        "/v1/chat/completions": {
            "post": {"summary": "Ask an agent", **chat},
            "get": {"summary": "List stored chat completions", **_in_path(query=_LIST), **_answers("CompletionPage")},
        },
        **_stored(),
        "/v1/completions": {
            "post": {"summary": "Ask with a bare prompt", **_asked("CompletionRequest", "Completion", "Completion")}
        },
        **_conversations(),
        "/v1/embeddings": {
            "post": {"summary": "Embed texts", **_json("EmbeddingRequest"), **_answers("EmbeddingList")},
        },
        **_files(),
        **_responses(),
        "/v1/models": {"get": {"summary": "List the models", **_answers("ModelList")}},
        "/v1/models/{model}": {"get": {"summary": "Get a model", **model, **_answers("Model")}},
        "/healthz": {"get": {"summary": "Alive?", "security": [], "responses": {"200": {"description": "Yes"}}}},
        "/readyz": {"get": {"summary": "Taking new turns?", "security": [], "responses": _yes_or_no()}},
    }


def _stored() -> dict[str, Any]:
    stored, kept = _in_path("completion_id"), _in_path("conversation_id")
    listed = _in_path("completion_id", query=_LIST)
    return {
        "/v1/chat/completions/{completion_id}": {
            "get": {"summary": "Get a stored chat completion", **stored, **_answers("ChatCompletion")},
            "post": {
                "summary": "Change its metadata",
                **stored,
                **_json("MetadataUpdate"),
                **_answers("ChatCompletion"),
            },
            "delete": {"summary": "Delete it", **stored, **_answers("Deleted")},
        },
        "/v1/chat/completions/{completion_id}/messages": {
            "get": {"summary": "List the messages it was made from", **listed, **_answers("MessagePage")},
        },
        "/v1/chat/conversations/{conversation_id}": {
            "get": {"summary": "Get a conversation as messages", **kept, **_answers("KeptConversation")},
            "delete": {"summary": "Delete it", **kept, **_answers("Deleted")},
        },
    }


def _conversations() -> dict[str, Any]:
    one, item = _in_path("conversation_id"), _in_path("conversation_id", "item_id")
    listed, found = _in_path("conversation_id", query=_LIST), _answers("ConversationObject")
    return {
        "/v1/conversations": {"post": {"summary": "Make a conversation", **_json("ConversationCreate"), **found}},
        "/v1/conversations/{conversation_id}": {
            "get": {"summary": "Get a conversation", **one, **found},
            "post": {"summary": "Change its metadata", **one, **_json("MetadataUpdate"), **found},
            "delete": {"summary": "Delete it", **one, **_answers("DeletedConversation")},
        },
        "/v1/conversations/{conversation_id}/items": {
            "get": {"summary": "List its items", **listed, **_answers("ItemPage")},
            "post": {"summary": "Add items", **one, **_json("ConversationItems"), **_answers("ItemPage")},
        },
        "/v1/conversations/{conversation_id}/items/{item_id}": {
            "get": {"summary": "Get an item", **item, **_answer({"type": "object"})},
            "delete": {"summary": "Take it out", **item, **found},
        },
    }


def _files() -> dict[str, Any]:
    one = _in_path("file_id")
    return {
        "/v1/files": {
            "post": {"summary": "Upload a file", **_form(), **_answers("File")},
            "get": {"summary": "List the files", **_in_path(query=_FILES), **_answers("FilePage")},
        },
        "/v1/files/{file_id}": {
            "get": {"summary": "Get what is known of a file", **one, **_answers("File")},
            "delete": {"summary": "Delete it", **one, **_answers("DeletedFile")},
        },
        "/v1/files/{file_id}/content": {
            "get": {"summary": "Get its bytes", **one, **_answer({}, "application/octet-stream")},
        },
    }


def _responses() -> dict[str, Any]:
    one, whole = _in_path("response_id"), _answers("Response")
    followed = _in_path("response_id", query=_FOLLOW)
    listed = _in_path("response_id", query=_LIST)
    return {
        "/v1/responses": {
            "post": {
                "summary": "Ask an agent; with an upgrade to a WebSocket, GET does so too",
                **_asked("ResponseRequest", "Response", "ResponseStreamEvent"),
            }
        },
        "/v1/responses/compact": {
            "post": {"summary": "Sum up a conversation", **_json("CompactRequest"), **_answers("CompactedResponse")},
        },
        "/v1/responses/input_tokens": {
            "post": {"summary": "Count its tokens", **_json("InputTokensRequest"), **_answers("InputTokens")},
        },
        "/v1/responses/{response_id}": {
            "get": {
                "summary": "Get a response, or follow it",
                **followed,
                **_streamed("Response", "ResponseStreamEvent"),
            },
            "delete": {"summary": "Delete it", **one, **_answers("DeletedResponse")},
        },
        "/v1/responses/{response_id}/cancel": {
            "post": {"summary": "Stop one that runs in the background", **one, **whole},
        },
        "/v1/responses/{response_id}/input_items": {
            "get": {"summary": "List the items it was made from", **listed, **_answers("InputItemPage")},
        },
    }


def _form() -> dict[str, Any]:
    fields: dict[str, Any] = {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"enum": list(PURPOSES)},
        "expires_after[anchor]": {"const": "created_at"},
        "expires_after[seconds]": {"type": "integer", "minimum": EXPIRY[0], "maximum": EXPIRY[-1]},
    }
    schema = {"type": "object", "properties": fields, "required": ["file", "purpose"]}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


_LIST: Mapping[str, Any] = {
    "after": {"type": "string"},
    "limit": {"type": "integer", "minimum": 1, "maximum": 100},
    "order": {"enum": ["asc", "desc"]},
}
_FILES: Mapping[str, Any] = {
    **_LIST,
    "limit": {"type": "integer", "minimum": 1, "maximum": 10_000},
    "purpose": {"enum": list(PURPOSES)},
}
_FOLLOW: Mapping[str, Any] = {"stream": {"type": "boolean"}, "starting_after": {"type": "integer", "minimum": -1}}


def _in_path(*names: str, query: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    path = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    return {"parameters": [*path, *[{"name": name, "in": "query", "schema": query[name]} for name in query]]}


def _yes_or_no() -> dict[str, Any]:
    return {"200": {"description": "Yes"}, "503": _error("Shutting down")}


def _asked(request: str, whole: str, chunk: str) -> dict[str, Any]:
    return {**_json(request), **_streamed(whole, chunk)}


def _streamed(whole: str, chunk: str) -> dict[str, Any]:
    answer = _answers(whole)
    answer["responses"]["200"]["content"]["text/event-stream"] = {"schema": _ref(chunk)}
    return answer


def _json(request: str) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _ref(request)}}}}


def _answers(name: str) -> dict[str, Any]:
    return _answer(_ref(name))


def _answer(schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    found = {"description": "The answer", "content": {kind: {"schema": schema}}}
    return {"responses": {"200": found, "default": _error("An error")}}


def _error(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": _ref("ErrorEnvelope")}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": REF.format(model=name)}
