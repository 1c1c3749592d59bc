"""Pagination of lists as OpenAI does it: `limit`, `order`, and `after`, the last id of the previous page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from ..errors import InvalidRequest
from ..stores.records import Order


@dataclass(frozen=True, slots=True)
class PageQuery:
    """The requested part of a list."""

    limit: int
    order: Order
    after: str | None


def page_query(query: str, default_order: Order, *, page: int = 20, most: int = 100) -> PageQuery:
    """The page that a query string requests: `page` objects unless it has a `limit`, which may be at most `most`.

    Raises InvalidRequest.
    """
    sent = {name: values[-1] for name, values in parse_qs(query).items()}
    limit = sent.get("limit", str(page))
    # At most nine digits: `int` raises ValueError for thousands.
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= most:
        raise InvalidRequest(f"'limit' is a number from 1 to {most}.", param="limit", code="invalid_value")
    return PageQuery(int(limit[:9]), _parse_order(sent.get("order", default_order)), sent.get("after"))


def list_page(objects: Sequence[dict[str, Any]], query: str, default_order: Order) -> dict[str, Any]:
    """A page of a list that never changes. `objects` are ordered oldest first. Raises InvalidRequest."""
    asked = page_query(query, default_order)
    ordered = objects if asked.order == "asc" else objects[::-1]
    start = _start_index([found["id"] for found in ordered], asked.after)
    data = ordered[start : start + asked.limit]
    return page_of(data, more=start + len(data) < len(ordered))


def page_of(data: Sequence[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    """A page; `more` is True if another page follows."""
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        # OpenAI's SDKs request the next page with `after=<last_id>` until this is false.
        "has_more": more,
    }


def unknown_cursor() -> InvalidRequest:
    """The error for an `after` that names nothing in the list."""
    return InvalidRequest("'after' is the id of no object in this list.", param="after", code="invalid_value")


def _start_index(ids: Sequence[str], after: str | None) -> int:
    if after is None:
        return 0
    if after not in ids:
        raise unknown_cursor()
    return ids.index(after) + 1


def _parse_order(sent: str) -> Order:
    match sent:
        case "asc" | "desc":
            return sent
        case _:
            raise InvalidRequest("'order' is 'asc' or 'desc'.", param="order", code="invalid_value")
