"""Requests and responses of the APIs for stored completions.

Source of the first three: OpenAI's OpenAPI document. Chat conversations are an extension.
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
    """A stored completion with the metadata its client has set."""

    metadata: dict[str, str]


class CompletionPage(TypedDict):
    """One page of stored completions; pass `last_id` as `after` to get the next page."""

    object: Literal["list"]
    data: list[StoredChatCompletion]
    first_id: str | None
    last_id: str | None
    has_more: bool


class MessagePage(TypedDict):
    """The messages that led to a stored completion, in the chat API's format, each with an id."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class KeptConversation(TypedDict):
    """A conversation stored on the server. `created` is in unix seconds."""

    id: str
    object: Literal["chat.conversation"]
    created: int
    turns: int
    messages: list[dict[str, Any]]


class Deleted(TypedDict):
    """Confirms that a stored completion or a conversation was deleted."""

    id: str
    object: Literal["chat.completion.deleted", "chat.conversation.deleted"]
    deleted: Literal[True]
