"""The Conversations API, as it is sent and answered. Source: OpenAI's OpenAPI document and its SDK's types."""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from .chat.request_types import Metadata, WireModel
from .items.types import ItemInput

MAX_ITEMS = 20
"""Items that one request may add."""


class ConversationCreate(WireModel):
    """The body of `POST /v1/conversations`."""

    items: list[ItemInput] | None = None
    metadata: Metadata | None = None


class ConversationItems(WireModel):
    """The body of `POST /v1/conversations/{id}/items`."""

    items: list[ItemInput]


class ConversationObject(TypedDict):
    """A conversation. `created_at` is in unix seconds."""

    id: str
    object: Literal["conversation"]
    created_at: int
    metadata: dict[str, str]


class ItemPage(TypedDict):
    """Items of a conversation; the next page begins `after` the last id."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedConversation(TypedDict):
    """What was deleted."""

    id: str
    object: Literal["conversation.deleted"]
    deleted: Literal[True]
