"""Chat completions that were made with `store: true`: list, get, update their metadata, delete, list their messages.

Source: OpenAI's OpenAPI document (`/chat/completions`, `/chat/completions/{id}` and `/messages` below it).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

from pydantic_core import from_json

from ...aio.off_loop import run_off_loop
from ...errors import NotFound
from ...stores.port import Key, StoredCompletion
from ...wire.chat.stored_types import Deleted, MetadataUpdate
from ...wire.json import dumps, is_quick, parse_object, validate
from ..exchange import Exchange
from ..paging import list_page, page_of, page_query, unknown_cursor
from ..services import Services


async def list_completions(services: Services, exchange: Exchange) -> None:
    """A page of the caller's completions, filtered by `model` and `metadata[key]`."""
    query, asked = parse_qs(exchange.request.query), page_query(exchange.request.query, "asc")
    kept = await services.state.store.list_completions(exchange.principal.id, asked.after, asked.order)
    if kept is None:
        raise unknown_cursor()
    found = [completion for completion in kept if _matches(completion, query)]
    shown = [_to_object(completion) for completion in found[: asked.limit]]
    await exchange.answer(200, dumps(page_of(shown, more=len(found) > asked.limit)))


async def get_completion(services: Services, exchange: Exchange, identifier: str) -> None:
    """The completion as it was answered, with its current metadata. Raises NotFound."""
    await exchange.answer(200, dumps(_to_object(await _find(services, exchange, identifier))))


async def list_messages(services: Services, exchange: Exchange, identifier: str) -> None:
    """A page of the messages that a completion was made from."""
    found = await _find(services, exchange, identifier)
    messages = [
        {"id": f"{found.id}-{index}", "name": None, **message}
        for index, message in enumerate(from_json(found.messages))
    ]
    await exchange.answer(200, dumps(list_page(messages, exchange.request.query, "asc")))


async def update_completion(services: Services, exchange: Exchange, identifier: str) -> None:
    """Replace a completion's metadata, or remove all of it if none is sent. Raises NotFound."""
    body = await exchange.read_body(services.settings.limits, services.settings.deadlines)
    update = validate(MetadataUpdate, await run_off_loop(parse_object, body, long=not is_quick(body)))
    changed = replace(await _find(services, exchange, identifier), metadata=update.metadata or {})
    await services.state.store.put_completion(exchange.principal.id, changed)
    await exchange.answer(200, dumps(_to_object(changed)))


async def delete_completion(services: Services, exchange: Exchange, identifier: str) -> None:
    """Delete a completion and the messages that it was made from. Raises NotFound."""
    if not await services.state.store.delete_completion(Key(exchange.principal.id, identifier)):
        raise _unknown_completion()
    body: Deleted = {"id": identifier, "object": "chat.completion.deleted", "deleted": True}
    await exchange.answer(200, dumps(body))


async def _find(services: Services, exchange: Exchange, identifier: str) -> StoredCompletion:
    found = await services.state.store.get_completion(Key(exchange.principal.id, identifier))
    if found is None:
        raise _unknown_completion()
    return found


def _unknown_completion() -> NotFound:
    return NotFound("No stored chat completion has this id.", code="completion_not_found", param="completion_id")


def _to_object(stored: StoredCompletion) -> dict[str, Any]:
    return {**from_json(stored.body), "metadata": stored.metadata}


def _matches(stored: StoredCompletion, query: dict[str, list[str]]) -> bool:
    if "model" in query and stored.model != query["model"][-1]:
        return False
    # Clients send `metadata[key]=value`.
    wanted = {name[9:-1]: values[-1] for name, values in query.items() if name.startswith("metadata[")}
    return all([stored.metadata.get(name) == value for name, value in wanted.items()])
