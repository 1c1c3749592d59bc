"""Limits on the number of values in a body, in every field that accepts JSON; other requests are answered meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat import Limits, Server
from openai_compat.errors import InvalidRequest
from openai_compat.policies.chat_rest import ChatRest
from openai_compat.policies.conversations import Conversations
from openai_compat.wire.json import check_values
from openai_compat_adapters.websocket import connect
from tests.api.chat_websocket.client import ChatWebSocket, chat
from tests.requirements import requirement
from tests.trust.loop import watched_loop
from tests.trust.probe import JSON, Counting, in_process

pytestmark = pytest.mark.anyio

MANY = Limits().values
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text('a,:[{}]"\\ \n\N{GEAR}', max_size=9),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text('a,:[{}]"\\', max_size=5), inner, max_size=5),
    max_leaves=40,
)


def count(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum([count(inner) for inner in value.values()])
    return 1 + sum([count(inner) for inner in value]) if isinstance(value, list) else 1


def holds_more(data: bytes, most: int) -> bool:
    try:
        check_values(data, most)
    except InvalidRequest as error:
        return error.code == "too_many_values"
    return False


@requirement("values.bounded")
@given(VALUES, st.sampled_from([None, 1]), st.booleans())
def test_values_are_counted_exactly_however_the_json_is_written(
    value: Any, indent: int | None, ascii_only: bool
) -> None:
    data = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    assert not holds_more(data, count(value))
    assert count(value) == 1 or holds_more(data, count(value) - 1)


@requirement("values.bounded")
@pytest.mark.parametrize("sign", [",", ":", "[", "{", '"', "\\", '\\",[', "\n"])
def test_a_long_text_is_one_value_whatever_it_says(sign: str) -> None:
    assert not holds_more(json.dumps([sign * 300_000] * 2).encode(), 3)
    assert holds_more(json.dumps([sign * 300_000, 1, 2]).encode(), 3)


def body(values: str, **fields: Any) -> bytes:
    return json.dumps({**fields, "unknown": 0}).encode()[:-2] + values.encode() + b"}"


LISTS = f"[{'[],' * 3_000_000}[]]"
USER = {"role": "user", "content": "hi"}
PARTS = {"role": "user", "content": [{"type": "text", "text": "x"}] * 200_000}
PATHS: dict[str, tuple[str, bytes]] = {
    "chat": ("/v1/chat/completions", body(LISTS, model="agent", messages=[USER])),
    "chat, parts": ("/v1/chat/completions", json.dumps({"model": "agent", "messages": [PARTS]}).encode()),
    "chat, names": ("/v1/chat/completions", body(json.dumps(dict.fromkeys(map(str, range(110_000)))), messages=[USER])),
    "completions": ("/v1/completions", body(LISTS, model="agent", prompt="hi")),
    "Responses": ("/v1/responses", body(LISTS, model="agent", input="hi")),
    "input tokens": ("/v1/responses/input_tokens", body(LISTS, model="agent", input="hi")),
    "compact": ("/v1/responses/compact", body(LISTS, model="agent", input="hi")),
    "embeddings": ("/v1/embeddings", body(LISTS, model="embed", input="hi")),
    "decisions": ("/v1/decisions", body(LISTS, model="agent", input="hi", questions=[])),
    "conversations": ("/v1/conversations", body(LISTS)),
    "items": ("/v1/conversations/conv_1/items", body(LISTS, items=[USER])),
    "metadata": ("/v1/conversations/conv_1", body(LISTS, metadata={})),
    "stored completion": ("/v1/chat/completions/chatcmpl-1", body(LISTS, metadata={})),
    "REST": ("/api/chat/completions", body(LISTS, model="agent", messages=[USER])),
    "REST conversation": ("/api/chat/conversations", body(LISTS)),
}


def serving(agent: Any = None, **settings: Any) -> Server:
    return Server(
        agent or Counting(),
        embeddings={"embed": lambda texts: [[1.0] for _ in texts]},
        chat_rest=ChatRest(),
        chat_websocket=ChatWebSocket(),
        **settings,
    )


@requirement("values.bounded")
@pytest.mark.parametrize(("path", "content"), PATHS.values(), ids=PATHS)
async def test_a_body_with_too_many_values_is_refused_and_others_are_answered_meanwhile(
    path: str, content: bytes
) -> None:
    agent = Counting()
    async with in_process(serving(agent)) as client:
        await client.post(path, content=b"{}", headers=JSON)
        with watched_loop():
            async with anyio.create_task_group() as group:

                async def send() -> None:
                    answer = await client.post(path, content=content, headers=JSON)
                    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_many_values")

                group.start_soon(send)
                assert (await client.get("/healthz")).status_code == 200
    assert agent.runs == 0


@requirement("values.bounded")
async def test_a_frame_with_too_many_values_is_refused_and_the_connection_goes_on() -> None:
    async with connect(serving(), "/v1/responses") as socket:
        await socket.send(body(LISTS, type="response.create", model="agent", input="hi").decode())
        assert json.loads(await socket.receive())["error"]["code"] == "too_many_values"
        await socket.send(json.dumps({"type": "response.create", "model": "agent", "input": "hi"}))
        assert json.loads(await socket.receive())["type"] == "response.created"
    async with chat(serving()) as client:
        await client.raw(body(LISTS, role="user", content="hi").decode())
        assert (await client.error())[:2] == (400, "too_many_values")
        assert (await client.ask())[-1]["type"] == "message"


@requirement("values.bounded")
async def test_the_bound_is_a_setting_of_the_server() -> None:
    async with in_process(serving(limits=Limits(values=20))) as client:
        many = {"model": "agent", "messages": [USER], "unknown": list(range(20))}
        refused = await client.post("/v1/chat/completions", json=many)
        taken = await client.post("/v1/chat/completions", json={"model": "agent", "messages": [USER]})
    assert (refused.status_code, taken.status_code) == (400, 200)
    assert "20 values" in refused.json()["error"]["message"]


def full(each: Any, **fields: Any) -> Callable[[str], bytes]:
    """A body with as many copies of `each` as the limits allow, in the named field."""
    number = min(9_990, (MANY - 100) // count(each))
    return lambda name: json.dumps({"model": "agent", **fields, name: [each] * number}).encode()


PART, IN_PART = {"type": "text", "text": "x"}, {"type": "input_text", "text": "x"}
TOOL = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(15)}}
LARGEST: dict[str, tuple[str, bytes]] = {
    "messages": ("/v1/chat/completions", full(USER)("messages")),
    "messages of parts": ("/v1/chat/completions", full({"role": "user", "content": [PART]})("messages")),
    "parts": (
        "/v1/chat/completions",
        json.dumps({"model": "agent", "messages": [{"role": "user", "content": [PART] * (MANY // 5 - 10)}]}).encode(),
    ),
    "unknown": ("/v1/chat/completions", full([], messages=[USER])("unknown")),
    "tools": (
        "/v1/chat/completions",
        json.dumps(
            {
                "model": "agent",
                "messages": [USER],
                "tools": [{"type": "function", "function": {"name": f"f{i}", "parameters": TOOL}} for i in range(1000)],
            }
        ).encode(),
    ),
    "drawings": (
        "/v1/chat/completions",
        json.dumps(
            {"model": "agent", "messages": [{"role": "assistant", "content": "[\N{GEAR} ]\n" * 600_000}, USER]}
        ).encode(),
    ),
    "a long text": (
        "/v1/chat/completions",
        json.dumps({"model": "agent", "messages": [{"role": "user", "content": ", " * 9_000_000}]}).encode(),
    ),
    "items": ("/v1/responses", full(USER)("input")),
    "items of parts": ("/v1/responses", full({"role": "user", "content": [IN_PART]})("input")),
    "parts of an item": (
        "/v1/responses",
        json.dumps({"model": "agent", "input": [{"role": "user", "content": [IN_PART] * (MANY // 5 - 10)}]}).encode(),
    ),
    "calls": (
        "/v1/responses",
        full({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"})("input"),
    ),
}


@requirement("values.bounded")
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize(("path", "content"), LARGEST.values(), ids=LARGEST)
async def test_no_step_of_the_loop_is_long_with_the_largest_bodies_that_are_taken(
    path: str, content: bytes, kept: bool
) -> None:
    server = serving(conversations=Conversations() if kept else None)
    async with in_process(server) as client:
        warm = {"model": "agent", "messages": [USER], "input": "hi"}
        await client.post(path, json=warm, headers={"x-conversation-id": "other"})
        with watched_loop():
            answer = await client.post(path, content=content, headers={**JSON, "x-conversation-id": "c"}, timeout=60)
    assert answer.status_code in (200, 400)
    assert answer.status_code == 200 or answer.json()["error"]["code"] != "too_many_values"
