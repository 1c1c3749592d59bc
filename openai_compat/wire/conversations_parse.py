"""Bodies of the Conversations API: bytes to items and metadata."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidRequest
from .body import check_length, parse_object, validate
from .conversations_types import MAX_ITEMS, ConversationCreate, ConversationItems
from .items.types import ONLY_ASKED
from .responses.parse.input_items import NewId, input_items


@dataclass(frozen=True, slots=True)
class NewConversation:
    """A conversation that is to be made."""

    items: tuple[dict[str, Any], ...]
    metadata: Mapping[str, str]


def parse_new_conversation(body: bytes, new_id: NewId) -> NewConversation:
    """What `POST /v1/conversations` says; an empty body says nothing. Raises InvalidRequest."""
    raw = parse_object(body or b"{}")
    check_length("items", raw.get("items"), MAX_ITEMS)
    wire = validate(ConversationCreate, raw)
    return NewConversation(_items(raw.get("items") or [], new_id), wire.metadata or {})


def parse_new_items(body: bytes, new_id: NewId) -> tuple[dict[str, Any], ...]:
    """The items that are to be added to a conversation. Raises InvalidRequest."""
    raw = parse_object(body)
    check_length("items", raw.get("items"), MAX_ITEMS)
    validate(ConversationItems, raw)
    return _items(raw["items"], new_id)


def check_new(items: Sequence[Mapping[str, Any]], known: Collection[str]) -> None:
    """Raise InvalidRequest for an item whose id another one in the conversation has."""
    for index, item in enumerate(items):
        if item["id"] in known:
            text = "An item with this id is in the conversation already."
            raise InvalidRequest(text, param=f"items[{index}].id", code="invalid_value")


def _items(sent: list[dict[str, Any]], new_id: NewId) -> tuple[dict[str, Any], ...]:
    items = input_items(sent, new_id)
    for index, item in enumerate(items):
        if item["type"] == "item_reference":
            text = "Items are added as they are, not by reference."
            raise InvalidRequest(text, param=f"items[{index}].type", code="invalid_value")
        if item["type"] in ONLY_ASKED:
            text = f"A '{item['type']}' asks something of a response, and is no part of a conversation."
            raise InvalidRequest(text, param=f"items[{index}].type", code="invalid_value")
    return items
