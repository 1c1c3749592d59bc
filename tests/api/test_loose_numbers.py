"""Numbers as clients write them: integers as floats, -1 for no limit, empty lists for nothing."""

from __future__ import annotations

from typing import Any

import pytest

from openai_compat import ChatRest, Server
from tests.connecting import Http, in_process
from tests.requirements import requirement
from tests.support.agents import HELLO, Says

pytestmark = [pytest.mark.anyio, in_process]

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
ASKED: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HELLO},
    COMPLETIONS: {"prompt": "Hello"},
    RESPONSES: {"input": "Hello"},
    "/api/chat/completions": {"messages": HELLO},
    "/api/chat/quick": {"prompt": "Hello"},
}


async def asked(http: Http, path: str, **fields: Any) -> tuple[Any, Says]:
    """The answer to a request with these fields, and the agent that ran."""
    agent = Says("Hi")
    async with http(Server(agent, chat_rest=ChatRest())) as client:
        answer = await client.post(path, json={"model": "agent", **ASKED[path], **fields})
    assert answer.status_code == 200, answer.text
    return answer.json(), agent


@requirement("params.whole_numbers")
@pytest.mark.parametrize(
    ("path", "field"),
    [
        (CHAT, "max_tokens"),
        (CHAT, "max_completion_tokens"),
        (COMPLETIONS, "max_tokens"),
        (RESPONSES, "max_output_tokens"),
        ("/api/chat/completions", "maxTokens"),
        ("/api/chat/quick", "maxTokens"),
    ],
)
async def test_a_limit_may_be_a_float_or_none_at_all(http: Http, path: str, field: str) -> None:
    for sent, limit in ((4096.0, 4096), (4096, 4096), (-1, None), (-1.0, None), (None, None)):
        answer, agent = await asked(http, path, **{field: sent})
        found = agent.request.sampling.max_tokens
        assert (found, type(found)) == (limit, type(limit))
        if path == RESPONSES:
            assert (answer[field], type(answer[field])) == (limit, type(limit))


@requirement("params.whole_numbers")
async def test_every_integer_may_be_written_as_a_float(http: Http) -> None:
    fields = {"n": 2.0, "seed": 7.0, "logprobs": True, "top_logprobs": 3.0}
    agent = Says("Hi")
    async with http(agent) as client:
        answer = await client.post(CHAT, json={"model": "agent", "messages": HELLO, **fields})
        older = await client.post(COMPLETIONS, json={"model": "agent", "prompt": "Hi", "best_of": 1.0, "seed": -1.0})
    assert (answer.status_code, older.status_code) == (200, 200)
    assert len(answer.json()["choices"]) == 2
    first, _, last = agent.requests
    found = (first.sampling.seed, first.sampling.top_logprobs, last.sampling.seed)
    assert (found, {type(number) for number in found}) == ((7, 3, -1), {int})


@requirement("params.whole_numbers")
async def test_a_response_repeats_its_integers_as_integers(http: Http) -> None:
    sent: dict[str, Any] = {"max_tool_calls": 3.0, "top_logprobs": 2.0, "include": ["message.output_text.logprobs"]}
    management = [{"type": "compaction", "compact_threshold": 9000.0}]
    answer, agent = await asked(http, RESPONSES, **sent, context_management=management)
    assert (answer["max_tool_calls"], answer["top_logprobs"]) == (3, 2)
    assert {type(answer["max_tool_calls"]), type(answer["top_logprobs"])} == {int}
    assert (agent.request.sampling.max_tool_calls, agent.request.sampling.top_logprobs) == (3, 2)


@requirement("params.whole_numbers")
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_an_empty_list_of_stop_sequences_is_none(http: Http, path: str) -> None:
    _, agent = await asked(http, path, stop=[])
    assert agent.request.sampling.stop == ()


@requirement("params.whole_numbers")
async def test_empty_lists_and_objects_are_nothing(http: Http) -> None:
    fields = {"tools": [], "logit_bias": {}, "metadata": {}, "stream_options": {}}
    _, agent = await asked(http, CHAT, **fields)
    assert agent.request.tools == ()
    _, agent = await asked(http, RESPONSES, tools=[], include=[], metadata={}, text={}, reasoning={}, stream_options={})
    assert agent.request.tools == ()


@requirement("params.whole_numbers")
async def test_vectors_may_be_asked_for_with_a_float(http: Http) -> None:
    async def embed(texts: list[str], dimensions: int | None) -> list[list[float]]:
        return [[1.0] * (dimensions or 1) for _ in texts]

    async with http(Server(Says("Hi"), embeddings={"vectors": embed})) as client:
        body = {"model": "vectors", "input": "Hi", "dimensions": 4.0}
        answer = await client.post("/v1/embeddings", json=body)
    assert len(answer.json()["data"][0]["embedding"]) == 4
