"""`GET /v1/models` and `/{id}` in Anthropic's format, for requests with its version header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from ...errors import InvalidRequest
from ...http import HttpRequest
from ...wire.anthropic_messages.answer_types import AnthropicModel, AnthropicModelPage
from ...wire.json import dumps
from ..exchange import Exchange
from ..services import Models, Services

MAX_PAGE = 1000
"""Models on one page."""


def is_anthropic(request: HttpRequest) -> bool:
    """True if the request comes from one of Anthropic's clients: all of them send this header."""
    return request.header(b"anthropic-version") is not None


PAGING: Mapping[str, Any] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE},
    "after_id": {"type": "string"},
    "before_id": {"type": "string"},
}
"""The query parameters of the list, for `/openapi.json`."""


async def list_models(services: Services, exchange: Exchange) -> None:
    """A page of the agents that the caller may use, in the order they were given."""
    names = [name for name in services.models.agents if exchange.principal.may_use(name)]
    query = parse_qs(exchange.request.query)
    limit = _parse_limit(query.get("limit", ["20"])[-1])
    after, before = query.get("after_id", [None])[-1], query.get("before_id", [None])[-1]
    if before is not None:
        rest = names[: _position(names, before, "before_id")]
        shown, more = rest[max(len(rest) - limit, 0) :], len(rest) > limit
    else:
        rest = names if after is None else names[_position(names, after, "after_id") + 1 :]
        shown, more = rest[:limit], len(rest) > limit
    page: AnthropicModelPage = {
        "data": [_model(services.models, name) for name in shown],
        "has_more": more,
        "first_id": shown[0] if shown else None,
        "last_id": shown[-1] if shown else None,
    }
    await exchange.answer(200, dumps(page))


async def get_model(services: Services, exchange: Exchange, model: str) -> None:
    """One agent that the caller may use. Raises NotFound."""
    name, _ = services.models.agent(model, exchange.principal)
    await exchange.answer(200, dumps(_model(services.models, name)))


def _parse_limit(sent: str) -> int:
    number = int(sent) if sent.isascii() and sent.isdigit() and len(sent) < 6 else 0
    if not 1 <= number <= MAX_PAGE:
        raise InvalidRequest(f"'limit' is a number from 1 to {MAX_PAGE}.", param="limit", code="invalid_value")
    return number


def _position(names: Sequence[str], name: str, param: str) -> int:
    if name not in names:
        raise InvalidRequest(f"'{param}' is the id of a model.", param=param, code="invalid_value")
    return names.index(name)


def _model(models: Models, name: str) -> AnthropicModel:
    window = models.agents[name].capabilities.context_window
    model: AnthropicModel = {
        "type": "model",
        "id": name,
        "display_name": name,
        # An agent has no creation time, so this is the server's.
        "created_at": datetime.fromtimestamp(models.started, UTC).isoformat().replace("+00:00", "Z"),
        "lifecycle": "active",
    }
    if window is not None:
        model["max_input_tokens"] = window
    return model
