"""Requests and responses of the Conversations API. Source: OpenAI's OpenAPI document and its SDK's types."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from typing_extensions import TypedDict

from ..errors import InvalidRequest
from .chat.request_types import Metadata, WireModel
from .items.parse import NewId, input_items
from .items.types import ACTION_TYPES, ItemInput
from .json import check_length, parse_object, validate

MAX_ITEMS = 20
"""Maximum number of items that one request may add."""


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
    """One page of a conversation's items; pass `last_id` as `after` to get the next page."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedConversation(TypedDict):
    """The response of `DELETE /v1/conversations/{id}`."""

    id: str
    object: Literal["conversation.deleted"]
    deleted: Literal[True]


@dataclass(frozen=True, slots=True)
class NewConversation:
    """A conversation to create."""

    items: tuple[dict[str, Any], ...]
    metadata: Mapping[str, str]


def parse_new_conversation(body: bytes, new_id: NewId) -> NewConversation:
    """Parse `POST /v1/conversations`; the body may be empty. Raises InvalidRequest."""
    raw = parse_object(body or b"{}")
    check_length("items", raw.get("items"), MAX_ITEMS)
    wire = validate(ConversationCreate, raw)
    return NewConversation(_to_items(raw.get("items") or [], new_id), wire.metadata or {})


def parse_new_items(body: bytes, new_id: NewId) -> tuple[dict[str, Any], ...]:
    """Parse the items to add to a conversation. Raises InvalidRequest."""
    raw = parse_object(body)
    check_length("items", raw.get("items"), MAX_ITEMS)
    validate(ConversationItems, raw)
    return _to_items(raw["items"], new_id)


def check_new(items: Sequence[Mapping[str, Any]], known: Collection[str]) -> None:
    """Raise InvalidRequest if an item's id is already used in the conversation."""
    for index, item in enumerate(items):
        if item["id"] in known:
            text = "An item with this id is in the conversation already."
            raise InvalidRequest(text, param=f"items[{index}].id", code="invalid_value")


def _to_items(sent: list[dict[str, Any]], new_id: NewId) -> tuple[dict[str, Any], ...]:
    items = input_items(sent, new_id)
    for index, item in enumerate(items):
        if item["type"] == "item_reference":
            text = "Items are added as they are, not by reference."
            raise InvalidRequest(text, param=f"items[{index}].type", code="invalid_value")
        if item["type"] in ACTION_TYPES:
            text = f"A '{item['type']}' asks something of a response, and is no part of a conversation."
            raise InvalidRequest(text, param=f"items[{index}].type", code="invalid_value")
    return items
