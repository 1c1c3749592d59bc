"""Chat completions that were made with `store: true`: list, get, change their metadata, delete, list their messages.

Source: OpenAI's OpenAPI document (`/chat/completions`, `/chat/completions/{id}` and `/messages` below it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

from pydantic_core import from_json

from ..errors import InvalidRequest, MethodNotAllowed, NotFound
from ..exchange import Exchange
from ..parsers.body import parse_object, validate
from ..policies.content import check_content_type
from ..policies.limits import read_body
from ..protocol.stored import Deleted, MetadataUpdate
from ..runtime import Runtime
from ..serializers.encoding import dumps
from ..stores.port import Key, StoredCompletion

PAGE = 20
MAX_PAGE = 100


async def list_completions(runtime: Runtime, exchange: Exchange) -> None:
    """A page of the caller's completions, filtered by `model` and `metadata[key]`."""
    query = parse_qs(exchange.request.query)
    found = [c for c in await runtime.store.list_completions(exchange.principal.id) if _matches(c, query)]
    await exchange.answer(200, dumps(page([_object(c) for c in found], query)))


async def get_completion(runtime: Runtime, exchange: Exchange, rest: str) -> None:
    """One completion, or, below `/messages`, what it was made from."""
    identifier, _, below = rest.partition("/")
    found = await _find(runtime, exchange, identifier)
    if below == "messages":
        await exchange.answer(200, dumps(page(_messages(found), parse_qs(exchange.request.query))))
    elif below:
        raise NotFound("Unknown path. The API is below /v1.", code="unknown_url")
    else:
        await exchange.answer(200, dumps(_object(found)))


async def update_completion(runtime: Runtime, exchange: Exchange, identifier: str) -> None:
    """Replace a completion's metadata."""
    if "/" in identifier:
        raise MethodNotAllowed("This path takes GET, HEAD.", headers={"Allow": "GET, HEAD"})
    check_content_type(exchange.request)
    body = await read_body(exchange.request, runtime.limits.body, runtime.deadlines.body)
    update = validate(MetadataUpdate, parse_object(body))
    changed = replace(await _find(runtime, exchange, identifier), metadata=update.metadata or {})
    await runtime.store.put_completion(exchange.principal.id, changed)
    await exchange.answer(200, dumps(_object(changed)))


async def delete_completion(runtime: Runtime, exchange: Exchange, identifier: str) -> None:
    """Forget a completion."""
    if not await runtime.store.delete_completion(Key(exchange.principal.id, identifier)):
        raise _unknown()
    body: Deleted = {"id": identifier, "object": "chat.completion.deleted", "deleted": True}
    await exchange.answer(200, dumps(body))


async def _find(runtime: Runtime, exchange: Exchange, identifier: str) -> StoredCompletion:
    found = await runtime.store.get_completion(Key(exchange.principal.id, identifier))
    if found is None:
        raise _unknown()
    return found


def _unknown() -> NotFound:
    return NotFound("No stored chat completion has this id.", code="completion_not_found", param="completion_id")


def _object(stored: StoredCompletion) -> dict[str, Any]:
    return {**from_json(stored.body), "metadata": stored.metadata}


def _messages(stored: StoredCompletion) -> list[dict[str, Any]]:
    messages = from_json(stored.messages)
    return [{"id": f"{stored.id}-{index}", "name": None, **message} for index, message in enumerate(messages)]


def _matches(stored: StoredCompletion, query: dict[str, list[str]]) -> bool:
    if "model" in query and stored.model != query["model"][-1]:
        return False
    wanted = {name[9:-1]: values[-1] for name, values in query.items() if name.startswith("metadata[")}
    return all([stored.metadata.get(name) == value for name, value in wanted.items()])


def page(objects: Sequence[dict[str, Any]], query: dict[str, list[str]]) -> dict[str, Any]:
    """A list as OpenAI pages it: `after` is the last id of the page before. Raises InvalidRequest."""
    if query.get("order", ["asc"])[-1] == "desc":
        objects = objects[::-1]
    ids = [found["id"] for found in objects]
    start = _start(ids, query)
    page = objects[start : start + _limit(query)]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": start + len(page) < len(objects),
    }


def _start(ids: Sequence[str], query: dict[str, list[str]]) -> int:
    if "after" not in query:
        return 0
    if query["after"][-1] not in ids:
        raise InvalidRequest("'after' is the id of no object in this list.", param="after", code="invalid_value")
    return ids.index(query["after"][-1]) + 1


def _limit(query: dict[str, list[str]]) -> int:
    sent = query.get("limit", [str(PAGE)])[-1]
    if not sent.isascii() or not sent.isdigit() or not 1 <= int(sent[:9]) <= MAX_PAGE:
        raise InvalidRequest(f"'limit' is a number from 1 to {MAX_PAGE}.", param="limit", code="invalid_value")
    return int(sent)
