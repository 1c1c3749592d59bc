"""Faulty bodies sent to the Responses API. Numbers refer to the list of faults."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx2
import pytest

from openai_compat import AgentRequest, Capabilities, Server, ToolCallReady, as_backend
from tests.trust.probe import JSON, Counting, error_of, in_process, strict_json
from tests.trust.test_input import mutated

pytestmark = pytest.mark.anyio
RESPONSES = "/v1/responses"
USER = {"role": "user", "content": "hi"}
FIND = {"type": "function", "name": "find", "parameters": {"type": "object"}}
WHOLE: dict[str, Any] = {
    "model": "agent",
    "instructions": "Be kind.",
    "input": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "find", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "found"}]},
        {"type": "acme:telepathy", "deep": [1]},
    ],
    "tools": [FIND, {"type": "web_search"}, {"type": "custom", "name": "write"}],
    "tool_choice": {"type": "function", "name": "find"},
    "text": {"format": {"type": "text"}, "verbosity": "low"},
    "reasoning": {"effort": "low"},
    "include": ["reasoning.encrypted_content"],
    "metadata": {"a": "b"},
    "temperature": 1.0,
    "max_output_tokens": 100,
    "truncation": "auto",
    "store": False,
}


async def post(body: bytes | str, agent: Any = None, path: str = RESPONSES) -> httpx2.Response:
    """The answer to exactly this body."""
    async with in_process(Server(agent or Counting())) as client:
        return await client.post(path, content=body, headers=JSON)


async def ask(agent: Any = None, **fields: Any) -> httpx2.Response:
    """The answer to a valid request with these fields added."""
    return await post(json.dumps({"model": "agent", "input": "hi", **fields}), agent)


async def says_what_it_got(request: AgentRequest) -> str:
    return json.dumps([request.raw_items, dict(request.extra)])


async def says_json(prompt: str) -> str:
    return "1"


def text_of(answer: httpx2.Response) -> str:
    output = strict_json(answer.content)["output"]
    return "".join([part["text"] for item in output if item["type"] == "message" for part in item["content"]])


async def calls_find(request: AgentRequest) -> AsyncIterator[Any]:
    yield "ho"
    if "find" in request.tool_choice.names:
        yield ToolCallReady("call_9", "find", "{}", "client")


@pytest.mark.parametrize("path", [RESPONSES, f"{RESPONSES}/input_tokens", f"{RESPONSES}/compact"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b'{"a": "\xff"}', b'{"a": 01}', b"model=agent"])
async def test_a_body_that_is_no_json_object_is_refused(body: bytes, path: str) -> None:
    """87"""
    assert error_of(await post(body, path=path)) == (400, "invalid_request_error", "invalid_request", None)


@pytest.mark.parametrize("field", ["temperature", "unknown", "input", "metadata"])
async def test_numbers_that_json_does_not_have_are_refused(field: str) -> None:
    """88"""
    for number in ("NaN", "Infinity", "-1e999"):
        answer = await post(f'{{"model": "agent", "input": "hi", "{field}": {{"a": {number}}}}}')
        assert error_of(answer)[:2] == (400, "invalid_request_error")


@pytest.mark.parametrize("field", ["input", "tools", "unknown", "text"])
async def test_json_a_hundred_thousand_levels_deep_is_refused_at_once(field: str) -> None:
    """90"""
    deep = "[" * 100_000 + "]" * 100_000
    with anyio.fail_after(3):
        answer = await post(f'{{"model": "agent", "input": "hi", "{field}": {deep}}}')
    assert error_of(answer)[:2] == (400, "invalid_request_error")


@pytest.mark.parametrize("depth", [90, 150, 199, 250, 900])
@pytest.mark.parametrize("where", ["unknown", "tools", "schema", "item"])
async def test_json_of_some_depth_is_carried_or_refused(depth: int, where: str) -> None:
    """91"""
    nested = '{"a":' * depth + "1" + "}" * depth
    fields = {
        "unknown": f'"unknown": {nested}',
        "tools": f'"tools": [{{"type": "function", "name": "f", "parameters": {nested}}}]',
        "schema": f'"text": {{"format": {{"type": "json_schema", "name": "a", "schema": {nested}}}}}',
        "item": f'"input": [{{"type": "acme:x", "deep": {nested}}}, {{"role": "user", "content": "hi"}}]',
    }[where]
    answer = await post(f'{{"model": "agent", "input": "hi", {fields}}}', says_json)
    assert answer.status_code == 200 or error_of(answer)[0] == 400


async def test_a_request_that_is_refused_runs_no_agent() -> None:
    """92, 96"""
    agent = Counting()
    for fields in ({"input": [{"role": "root", "content": "hi"}]}, {"temperature": 3}, {"input": []}, {"tools": [1]}):
        status, kind, _, param = error_of(await ask(agent, **fields))
        assert (status, kind) == (400, "invalid_request_error")
        assert (param or "").split("[")[0] in fields
    assert agent.runs == 0


async def test_a_model_that_is_missing_is_refused_and_an_unknown_one_not_found() -> None:
    """95"""
    missing = error_of(await post('{"input": "hi"}'))
    assert missing == (400, "invalid_request_error", "missing_required_parameter", "model")
    for unknown in ("other", "agent\x00", "a" * 10_000):
        answer = await ask(model=unknown)
        assert error_of(answer) == (404, "invalid_request_error", "model_not_found", "model")


@pytest.mark.parametrize(
    "text", ["\x00", "\ufeff", "\u202e", "a\u2028\u2029\x85", "👩‍👩‍👧" * 1000, "\n\ndata: [DONE]\n\n"]
)
async def test_odd_text_is_carried_unchanged(text: str) -> None:
    """100"""
    answer = await ask(says_what_it_got, input=[{"role": "user", "content": text}], odd=text)
    items, extra = json.loads(text_of(answer))
    assert items[0]["content"][0]["text"] == text
    assert extra == {"odd": text}


async def test_unknown_fields_and_items_are_kept_and_have_no_power() -> None:
    """104"""
    odd = {"__class__": "x", "principal": "root", "headers": {"a": "b"}, "conversation_id": "c", "raw_items": []}
    item = {"type": "acme:telepathy", "id": "item_x", "__init__": {"deep": [1]}}
    answer = await ask(says_what_it_got, input=[USER, item], **odd)
    items, extra = json.loads(text_of(answer))
    assert items[1] == item
    assert extra == odd


async def test_no_mutation_of_a_good_body_makes_the_server_fail() -> None:
    """106: 300 of them, always the same; plain and streamed"""
    dice = random.Random(2026)
    body = json.dumps(WHOLE).encode()
    streamed = json.dumps({**copy.deepcopy(WHOLE), "stream": True}).encode()
    statuses: set[int] = set()
    async with in_process(Server(as_backend(calls_find, capabilities=Capabilities()))) as client:
        assert (await client.post(RESPONSES, content=body, headers=JSON)).status_code == 200
        for number in range(300):
            content = mutated(dice, streamed if number % 2 else body)
            answer = await client.post(RESPONSES, content=content, headers=JSON)
            statuses.add(answer.status_code)
            if answer.status_code != 200:
                assert error_of(answer)[0] in (400, 404)
    assert statuses >= {200, 400}
