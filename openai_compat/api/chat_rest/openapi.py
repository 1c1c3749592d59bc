"""The chat REST API in the OpenAPI document: the schemas of its requests and answers."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from ...wire.chat_rest import types as wire
from ...wire.chat_rest.serialize_agentic import EVENTS
from ...wire.json import dumps
from ..openapi_schemas import schemas_of

PREFIX = "ChatRest"
"""Prefix of the schema names, some of which OpenAI's API has too."""

REF = f"#/components/schemas/{PREFIX}{{model}}"

REQUESTS: tuple[type[wire.CamelModel], ...] = (
    wire.CompletionsRequest,
    wire.QuickRequest,
    wire.RestNewConversation,
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
    wire.RestCompletion,
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
    wire.GrantList,
    wire.RestModelList,
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
            "done": {"type": "boolean", "description": "True in the last piece"},
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


@functools.cache
def schemas() -> dict[str, Any]:
    """The schemas of requests and answers, by the names that the paths refer to."""
    named = schemas_of(PREFIX, REQUESTS, ANSWERS, STREAMS)
    # Classes that share a name with OpenAI's API have a part of the prefix in their own names: `RestCompletion`.
    found: dict[str, Any] = from_json(dumps(named).replace(f"{PREFIX}Rest".encode(), PREFIX.encode()))
    return found
