"""Requests and answers of the APIs for stored completions.

Source of the first three: OpenAI's OpenAPI document. Conversations of chat are an extension of ours.
"""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from .request_types import Metadata, WireModel
from .response_types import ChatCompletion


class MetadataUpdate(WireModel):
    """The body of `POST /v1/chat/completions/{id}`."""

    metadata: Metadata | None


class StoredChatCompletion(ChatCompletion):
    """A stored answer, with its client's labels."""

    metadata: dict[str, str]


class CompletionPage(TypedDict):
    """Stored answers; the next page begins `after` the last id."""

    object: Literal["list"]
    data: list[StoredChatCompletion]
    first_id: str | None
    last_id: str | None
    has_more: bool


class MessagePage(TypedDict):
    """The messages that led to a stored answer, as the chat API has them, each with an id."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class KeptConversation(TypedDict):
    """A conversation that the server keeps. `created` is in unix seconds."""

    id: str
    object: Literal["chat.conversation"]
    created: int
    turns: int
    messages: list[dict[str, Any]]


class Deleted(TypedDict):
    """What is answered when a stored completion or a conversation was deleted."""

    id: str
    object: Literal["chat.completion.deleted", "chat.conversation.deleted"]
    deleted: Literal[True]
