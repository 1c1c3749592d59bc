"""Parameters of one API that are sent to another are refused, and the error says what to send instead."""

from __future__ import annotations

from typing import Any

import pytest

from openai_compat.wire.misplaced_parameters import CHAT_PARAMETERS, NON_COMPLETION_PARAMETERS, RESPONSES_PARAMETERS
from tests.connecting import Http, in_process
from tests.requirements import requirement
from tests.support.agents import Says

pytestmark = pytest.mark.anyio

BODIES: dict[str, dict[str, Any]] = {
    "/v1/responses": {"model": "agent", "input": "hi"},
    "/v1/chat/completions": {"model": "agent", "messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"model": "agent", "prompt": "hi"},
}
TOLD: list[tuple[str, str, Any, str]] = [
    ("/v1/responses", "messages", [{"role": "user", "content": "hi"}], "'input'"),
    ("/v1/responses", "response_format", {"type": "json_object"}, "'text.format'"),
    ("/v1/responses", "max_tokens", 1, "'max_output_tokens'"),
    ("/v1/responses", "max_completion_tokens", 100, "'max_output_tokens'"),
    ("/v1/responses", "reasoning_effort", "low", "'reasoning.effort'"),
    ("/v1/responses", "verbosity", "low", "'text.verbosity'"),
    ("/v1/responses", "functions", [{"name": "f"}], "'tools'"),
    ("/v1/responses", "function_call", "auto", "'tool_choice'"),
    ("/v1/responses", "web_search_options", {}, "'web_search'"),
    ("/v1/responses", "logprobs", True, "'message.output_text.logprobs'"),
    ("/v1/responses", "n", 2, "a request for each"),
    ("/v1/responses", "stop", ["END"], "no stop sequences"),
    ("/v1/responses", "modalities", ["text", "audio"], "text only"),
    ("/v1/chat/completions", "input", "hi", "'messages'"),
    ("/v1/chat/completions", "instructions", "Be kind.", "'developer'"),
    ("/v1/chat/completions", "max_output_tokens", 100, "'max_completion_tokens'"),
    ("/v1/chat/completions", "text", {"format": {"type": "json_object"}}, "'response_format'"),
    ("/v1/chat/completions", "previous_response_id", "resp_1", "'messages'"),
    ("/v1/chat/completions", "background", True, "/v1/responses"),
    ("/v1/completions", "max_completion_tokens", 5, "'max_tokens'"),
    ("/v1/completions", "max_output_tokens", 5, "'max_tokens'"),
    ("/v1/completions", "response_format", {"type": "json_object"}, "/v1/chat/completions"),
    ("/v1/completions", "tools", [{}], "/v1/chat/completions"),
]


@requirement("wrong.place")
@in_process
@pytest.mark.parametrize(("path", "name", "value", "instead"), TOLD, ids=lambda value: str(value)[:30])
async def test_a_parameter_of_another_api_is_refused_with_what_to_send(
    http: Http, path: str, name: str, value: Any, instead: str
) -> None:
    agent = Says("ok")
    async with http(agent) as client:
        answer = await client.post(path, json={**BODIES[path], name: value})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, name, "unsupported_parameter")
    assert instead in error["message"]
    assert agent.requests == []


@requirement("wrong.place")
@in_process
@pytest.mark.parametrize(
    ("path", "harmless"),
    [
        ("/v1/responses", {"n": 1, "logprobs": False, "modalities": ["text"], "stop": [], "seed": 1, "messages": None}),
        ("/v1/chat/completions", {"background": False, "reasoning": {"effort": "low"}, "input": None}),
    ],
)
async def test_what_asks_for_nothing_more_is_taken(http: Http, path: str, harmless: dict[str, Any]) -> None:
    async with http(Says("ok")) as client:
        answer = await client.post(path, json={**BODIES[path], **harmless})
    assert answer.status_code == 200


async def test_every_parameter_of_the_tables_is_tried_here() -> None:
    tried: dict[str, set[str]] = {path: {name for at, name, _, _ in TOLD if at == path} for path in BODIES}
    tables = (CHAT_PARAMETERS, RESPONSES_PARAMETERS, NON_COMPLETION_PARAMETERS)
    assert [tried[path] for path in BODIES] == [set(table) for table in tables]
