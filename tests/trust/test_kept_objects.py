"""Hostile requests for conversations, files and embeddings. Numbers refer to the list of faults."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from openai_compat import Conversations, Principal, Server
from tests.trust.probe import CHAT, JSON, error_of, in_process, strict_json

pytestmark = pytest.mark.anyio
NASTY: list[Any] = [
    *[None, True, False, 0, -1, 1.5, 10**30, "", "x", "\x00", "\ud800", "a" * 3000, [], {}, [[]], [None], [{}]],
    *["message", "input_image", "item_reference", {"type": "message"}, {"id": "x"}, {"type": "input_text"}],
]
EXTRA = ("id", "type", "status", "metadata", "items", "content", "output", "x\ud800")


def changed(dice: random.Random, value: Any, depth: int = 0) -> Any:
    """The value with some of its parts replaced, dropped or repeated."""
    if dice.random() < 0.2 or depth > 5:
        return dice.choice(NASTY)
    if isinstance(value, dict):
        fields = {key: changed(dice, item, depth + 1) if dice.random() < 0.4 else item for key, item in value.items()}
        for key in [key for key in fields if dice.random() < 0.05]:
            del fields[key]
        return fields | ({dice.choice(EXTRA): dice.choice(NASTY)} if dice.random() < 0.2 else {})
    if isinstance(value, list):
        items = [changed(dice, item, depth + 1) if dice.random() < 0.5 else item for item in value]
        return items * dice.choice([1, 1, 1, 0, 2, 25])
    return dice.choice(NASTY)


def embed(texts: list[str], tokens: list[list[int]], dimensions: int = 2, user: str = "") -> list[list[float]]:
    return [[0.5] * dimensions for _ in texts or tokens]


def requests(conversation: str, file: str) -> list[tuple[str, dict[str, Any]]]:
    """Valid requests, as paths and bodies."""
    parts = [
        {"type": "input_text", "text": "hi"},
        {"type": "input_image", "file_id": file, "detail": "low"},
        {"type": "input_file", "file_id": file},
    ]
    call = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c", "output": parts[:1]}
    items: list[Any] = [{"role": "user", "content": parts}, call, result]
    more: list[Any] = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "x"}]},
        {"type": "mcp_call", "id": "m", "name": "f", "arguments": "{}", "server_label": "s", "output": "x"},
        {"type": "compaction", "encrypted_content": "e30="},
    ]
    file_part = {"type": "file", "file": {"file_id": file}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "x"}, file_part]}]
    return [
        ("/v1/conversations", {"items": [*items, *more], "metadata": {"a": "b"}}),
        (f"/v1/conversations/{conversation}/items", {"items": items}),
        (f"/v1/conversations/{conversation}", {"metadata": {"a": "b"}}),
        ("/v1/responses", {"model": "agent", "input": items}),
        ("/v1/responses", {"model": "agent", "input": items, "conversation": conversation}),
        (CHAT, {"model": "agent", "messages": messages, "metadata": {"conversation_id": conversation}}),
        ("/v1/embeddings", {"model": "e", "input": ["a", "b"], "dimensions": 3, "user": "u"}),
    ]


@pytest.mark.parametrize("store", [lambda _: None, lambda folder: f"sqlite:///{folder}/db"], ids=["memory", "sqlite"])
async def test_no_change_of_a_good_body_makes_the_server_fail_or_a_conversation_unreadable(
    store: Callable[[Path], str | None], tmp_path: Path
) -> None:
    """106: 400 of them, always the same"""
    dice = random.Random(2026)
    statuses: set[int] = set()
    server = Server(
        lambda messages: "Hi", embeddings={"e": embed}, conversations=Conversations(), store=store(tmp_path)
    )
    async with server.lifespan(), in_process(server) as client:
        form: dict[str, Any] = {"files": {"file": ("a.png", b"x")}, "data": {"purpose": "vision"}}
        file = (await client.post("/v1/files", **form)).json()["id"]
        conversation = (await client.post("/v1/conversations", json={})).json()["id"]
        good = requests(conversation, file)
        for number in range(400):
            path, body = dice.choice(good)
            answer = await client.post(path, content=json.dumps(changed(dice, body)), headers=JSON)
            statuses.add(answer.status_code)
            if answer.status_code != 200:
                assert error_of(answer)[0] in (400, 404), (path, answer.content)
                assert len(answer.content) < 4000
            if number % 50 == 0:
                await read_all(client, conversation)
    assert statuses >= {200, 400}


async def read_all(client: Any, conversation: str) -> None:
    """Check that every item that a conversation lists can be read by its id."""
    listed = await client.get(f"/v1/conversations/{conversation}/items", params={"limit": 100})
    for item in strict_json(listed.content)["data"]:
        path = f"/v1/conversations/{conversation}/items/{quote(item['id'], safe='')}"
        assert strict_json((await client.get(path)).content) == item


IDS = ["x", "../x", "x/items/y", "%00", "\u202e", "a" * 5000, "';--", "..", "%2e%2e", "conv_\ud800"]


@pytest.mark.parametrize("sqlite", [False, True], ids=["memory", "sqlite"])
@pytest.mark.parametrize("identifier", IDS, ids=lambda identifier: ascii(identifier)[:20])
async def test_hostile_ids_in_paths_are_unknown_ids(identifier: str, sqlite: bool, tmp_path: Path) -> None:
    """13, 103"""
    named = quote(identifier.encode("utf-8", "surrogatepass"), safe="%")
    server = Server(lambda prompt: "Hi", store=f"sqlite:///{tmp_path}/db" if sqlite else None)
    async with server.lifespan(), in_process(server) as client:
        for path in (f"/v1/conversations/{named}", f"/v1/files/{named}", f"/v1/files/{named}/content"):
            for method in ("GET", "DELETE"):
                answer = await client.request(method, path)
                assert error_of(answer)[0] in (404, 405), (method, path)
        after = await client.get("/v1/files", params={"after": identifier.encode("utf-8", "replace").decode()})
        assert error_of(after)[0] == 400


async def test_without_a_key_none_of_it_is_there() -> None:
    """59, 66"""
    calls = [
        *[("POST", path) for path in ("conversations", "files", "decisions", "embeddings", "conversations/x/items")],
        *[
            ("GET", path)
            for path in ("files", "files/x", "files/x/content", "conversations/x", "conversations/x/items")
        ],
        *[("DELETE", path) for path in ("files/x", "conversations/x", "conversations/x/items/y")],
    ]
    ran: list[Any] = []
    server = Server(lambda prompt: "Hi", embeddings={"e": ran.append}, keys={"right": Principal("ann")})
    async with in_process(server) as client:
        for method, path in calls:
            for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic cmlnaHQ="}):
                answer = await client.request(method, f"/v1/{path}", headers=headers, json={"model": "e", "input": "a"})
                assert error_of(answer)[0::2] == (401, "invalid_api_key"), (method, path)
    assert ran == []
