"""The chat REST API in the OpenAPI document: paths below its prefix, and what they are sent and answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...protocol import chat_api as wire
from ...serializers.chat_api_agentic import EVENTS

PREFIX = "ChatApi"
"""Before the names of its schemas, some of which OpenAI's API has too."""

REF = f"#/components/schemas/{PREFIX}{{model}}"

REQUESTS: tuple[type[wire.CamelModel], ...] = (
    wire.CompletionsRequest,
    wire.QuickRequest,
    wire.NewConversation,
    wire.NewTitle,
    wire.ForkRequest,
    wire.MessageRequest,
    wire.ToolMessageRequest,
    wire.AgenticRequest,
    wire.ApproveRequest,
    wire.ConfigureRequest,
    wire.DefaultProviderRequest,
)
ANSWERS: tuple[Any, ...] = (
    wire.Completion,
    wire.QuickAnswer,
    wire.MessageAnswer,
    wire.ConversationAnswer,
    wire.ConversationWithMessages,
    wire.ConversationExport,
    wire.ConversationList,
    wire.MessageList,
    wire.Done,
    wire.ApproveAnswer,
    wire.ApprovalList,
    wire.ModelList,
    wire.OfferedModels,
    wire.ProviderList,
    wire.ProviderHealth,
    wire.ProviderChanged,
    wire.ToolList,
)
STREAMS: Mapping[str, Any] = {
    "Piece": {
        "type": "object",
        "properties": {
            "content": {"type": "string"},
            "thinking": {"type": "string"},
            "done": {"const": True},
            "usage": {"$ref": REF.format(model="TokenUsage")},
            "finishReason": {"type": "string"},
        },
    },
    "AgenticEvent": {
        "type": "object",
        "properties": {
            "type": {"enum": list(EVENTS)},
            "data": {"type": "object"},
            "timestamp": {"type": "integer", "description": "Unix time in milliseconds"},
        },
        "required": ["type", "data", "timestamp"],
    },
}
_PAGE: Mapping[str, Any] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 100},
    "offset": {"type": "integer", "minimum": 0},
    "cursor": {"type": "string"},
    "taskId": {"type": "string"},
    "ticketId": {"type": "string"},
    "projectId": {"type": "string"},
    "presetId": {"type": "string"},
}


def schemas() -> dict[str, Any]:
    """What is sent and answered, by the names that the paths refer to."""
    from pydantic import TypeAdapter  # noqa: PLC0415  (importing the library should not take the time this takes)
    from pydantic.json_schema import JsonSchemaMode  # noqa: PLC0415

    inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        *[(request.__name__, "validation", TypeAdapter(request)) for request in REQUESTS],
        *[(answer.__name__, "serialization", TypeAdapter(answer)) for answer in ANSWERS],
    ]
    _, shared = TypeAdapter.json_schemas(inputs, ref_template=REF)
    return {PREFIX + name: schema for name, schema in {**shared["$defs"], **STREAMS}.items()}


def paths(prefix: str) -> dict[str, Any]:
    """All of them."""
    below = {**_asking(), **_conversations(), **_tools(), **_providers()}
    return {prefix + path: operations for path, operations in below.items()}


def _asking() -> dict[str, Any]:
    asked = {**_body("CompletionsRequest"), **_answer("Completion", stream="Piece")}
    return {
        "/completions": {"post": {"summary": "Answer messages", **asked}},
        "/quick": {"post": {"summary": "Answer one prompt", **_body("QuickRequest"), **_answer("QuickAnswer")}},
        "/smart": {"post": {"summary": "Answer messages with the context of what they are about", **asked}},
    }


def _conversations() -> dict[str, Any]:
    one, message = _parameters("conversation_id"), _parameters("conversation_id", "message_id")
    exported = _parameters("conversation_id", query={"format": {"enum": ["json", "markdown"]}})
    made = _answer("ConversationAnswer", status="201")
    base = "/conversations/{conversation_id}"
    return {
        "/conversations": {
            "get": {"summary": "List conversations", **_parameters(query=_PAGE), **_answer("ConversationList")},
            "post": {"summary": "Make a conversation", **_body("NewConversation"), **made},
        },
        base: {
            "get": {"summary": "Get a conversation with its messages", **one, **_answer("ConversationWithMessages")},
            "delete": {"summary": "Delete it", **one, **_answer("Done")},
        },
        f"{base}/title": {"post": {"summary": "Name it", **one, **_body("NewTitle"), **_answer("ConversationAnswer")}},
        f"{base}/fork": {"post": {"summary": "Copy it", **one, **_body("ForkRequest"), **made}},
        f"{base}/export": {"get": {"summary": "Export it", **exported, **_answer("ConversationExport")}},
        f"{base}/messages": {
            "get": {"summary": "List its messages", **one, **_answer("MessageList")},
            "post": {"summary": "Say something", **one, **_body("MessageRequest"), **_message()},
        },
        f"{base}/messages/{{message_id}}": {"delete": {"summary": "Delete a message", **message, **_answer("Done")}},
        f"{base}/messages/with-tools": {
            "post": {"summary": "Say something, with tools", **one, **_body("ToolMessageRequest"), **_message()},
        },
        f"{base}/messages/agentic": {
            "post": {
                "summary": "Let the agent work, and follow it",
                **one,
                **_body("AgenticRequest"),
                **_answer(None, stream="AgenticEvent"),
            },
        },
    }


def _message() -> dict[str, Any]:
    return _answer("MessageAnswer", stream="Piece")


def _tools() -> dict[str, Any]:
    pending = _parameters(query={"conversationId": {"type": "string"}})
    decided = _answer("ApproveAnswer", stream="Piece")
    decided["responses"]["202"] = {"description": "The turn goes on", **_content("ApproveAnswer")}
    return {
        "/tools": {"get": {"summary": "List the agents' tools", **_answer("ToolList")}},
        "/tools/approve": {"post": {"summary": "Decide about a call", **_body("ApproveRequest"), **decided}},
        "/approvals": {"get": {"summary": "List what waits for a decision", **pending, **_answer("ApprovalList")}},
    }


def _providers() -> dict[str, Any]:
    one = _parameters("provider")
    of_one = _parameters(query={"provider": {"type": "string"}})
    changed = _answer("ProviderChanged")
    return {
        "/models": {"get": {"summary": "List the models", **of_one, **_answer("ModelList")}},
        "/providers": {"get": {"summary": "List the providers", **_answer("ProviderList")}},
        "/providers/default": {"post": {"summary": "Choose one", **_body("DefaultProviderRequest"), **changed}},
        "/providers/{provider}/models": {"get": {"summary": "List what it offers", **one, **_answer("OfferedModels")}},
        "/providers/{provider}/health": {"post": {"summary": "Look after it", **one, **_answer("ProviderHealth")}},
        "/providers/{provider}/configure": {
            "post": {"summary": "Configure it", **one, **_body("ConfigureRequest"), **changed},
        },
    }


def _parameters(*names: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
    path = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    asked = [{"name": name, "in": "query", "schema": schema} for name, schema in (query or {}).items()]
    return {"parameters": [*path, *asked]}


def _body(name: str) -> dict[str, Any]:
    return {"requestBody": {"required": True, **_content(name)}}


def _answer(name: str | None, *, stream: str | None = None, status: str = "200") -> dict[str, Any]:
    content: dict[str, Any] = {} if name is None else _content(name)["content"]
    if stream is not None:
        content["text/event-stream"] = {"schema": {"$ref": REF.format(model=stream)}}
    failed = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorEnvelope"}}}
    return {
        "responses": {
            status: {"description": "The answer", "content": content},
            "default": {"description": "An error", "content": failed},
        }
    }


def _content(name: str) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": {"$ref": REF.format(model=name)}}}}
