"""Anthropic's Messages API in the OpenAPI document."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from ...wire.anthropic_messages.answer_types import (
    AnthropicMessage,
    AnthropicModel,
    AnthropicModelPage,
    MessagesError,
    TokensCounted,
)
from ...wire.anthropic_messages.request_types import MessagesRequest, TokenCountRequest
from ..openapi_schemas import schemas_of

PREFIX = "Anthropic"
ERROR = "AnthropicMessagesError"
EVENTS = (
    "message_start",
    "ping",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "error",
)
STREAMS: Mapping[str, Any] = {
    "Event": {"type": "object", "properties": {"type": {"enum": list(EVENTS)}}, "required": ["type"]},
}


@functools.cache
def schemas() -> Mapping[str, Any]:
    """The schemas that the routes refer to."""
    requests = (MessagesRequest, TokenCountRequest)
    return schemas_of(
        PREFIX, requests, (AnthropicMessage, AnthropicModel, AnthropicModelPage, TokensCounted, MessagesError), STREAMS
    )


def json_content(name: str) -> Mapping[str, Any]:
    """JSON content with the named schema."""
    return {"application/json": _schema_ref(PREFIX + name)}


def message_or_events() -> Mapping[str, Any]:
    """A message, or its events. Some tools validate the whole event, not only its data."""
    events = [_schema_ref(name)["schema"] for name in (f"{PREFIX}Event", "ServerSentEvent")]
    return {**json_content("Message"), "text/event-stream": {"schema": {"anyOf": events}}}


def _schema_ref(name: str) -> Mapping[str, Any]:
    return {"schema": {"$ref": f"#/components/schemas/{name}"}}
