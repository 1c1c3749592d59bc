"""Anthropic's and Ollama's APIs in `/openapi.json`: real answers match the document."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import jsonschema
import pytest

from openai_compat import AgentError, AgentRequest, ChatRest, ReasoningDelta, Server, ToolCallReady, UsageReported
from openai_compat.api.anthropic_messages import AnthropicMessages
from openai_compat.api.ollama import Ollama
from tests.api.ollama.support import WEATHER
from tests.api.test_openapi import METHODS, check, document, references
from tests.connecting import Http, in_process
from tests.requirements import requirement

pytestmark = [pytest.mark.anyio, in_process]

SAID = [{"role": "user", "content": "hi"}]
JSON, EVENTS, LINES = "application/json", "text/event-stream", "application/x-ndjson"


async def agent(request: AgentRequest) -> AsyncIterator[Any]:
    yield ReasoningDelta("Hm")
    yield "Hello"
    yield UsageReported(5, 3, cached_tokens=1, reasoning_tokens=1)
    if request.tools:
        yield ToolCallReady("a", request.tools[0].name, '{"city": "Paris"}')
    if request.prompt == "fail":
        raise AgentError("It broke.", code="broken")


def embed(texts: list[str]) -> list[list[float]]:
    return [[1.0] for _ in texts]


def serving() -> Server:
    apis = [AnthropicMessages(), Ollama()]
    return Server(agent, apis=apis, embeddings={"embed": embed}, chat_rest=ChatRest(), page=True)


DESCRIBED: dict[str, Any] = {}


async def described(client: Any) -> dict[str, Any]:
    """The document, requested only once: it is long."""
    if not DESCRIBED:
        DESCRIBED.update((await client.get("/openapi.json")).json())
    return DESCRIBED


@requirement("openapi.document")
async def test_they_are_described_where_they_are_served_and_only_there(http: Http) -> None:
    without = await document(http)
    async with http(serving()) as client:
        openapi = await described(client)
    assert not [name for name in without["components"]["schemas"] if name.startswith(("Anthropic", "Ollama"))]
    more = set(openapi["paths"]) - set(without["paths"])
    assert {path for path in more if not path.startswith("/api/chat/")} == {
        *("/v1/messages", "/v1/messages/count_tokens"),
        *("/api/version", "/api/tags", "/api/ps", "/api/show", "/api/chat", "/api/generate"),
        *("/api/embed", "/api/embeddings"),
    }
    for reference in references(openapi):
        assert reference.removeprefix("#/components/schemas/") in openapi["components"]["schemas"]
    for schema in openapi["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    operations = [operation for item in openapi["paths"].values() for operation in item.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(set(item) <= METHODS for item in openapi["paths"].values())


@requirement("openapi.document")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", {"max_tokens": 100, "messages": SAID, "thinking": {"type": "adaptive"}}),
        ("/v1/messages", {"max_tokens": 100, "messages": SAID, "stream": True}),
        ("/v1/messages", {"max_tokens": 100, "messages": [{"role": "user", "content": "fail"}], "stream": True}),
        ("/v1/messages", {"max_tokens": 100, "messages": [{"role": "user", "content": "fail"}]}),
        ("/v1/messages", {"max_tokens": 0, "messages": SAID}),
        ("/v1/messages/count_tokens", {"messages": SAID}),
        ("/api/chat", {"messages": SAID, "tools": [WEATHER]}),
        ("/api/chat", {"messages": SAID, "tools": [WEATHER], "stream": False}),
        ("/api/chat", {"messages": [{"role": "user", "content": "fail"}], "stream": False}),
        ("/api/chat", {"messages": []}),
        ("/api/generate", {"prompt": "hi"}),
        ("/api/generate", {"prompt": "hi", "stream": False, "options": {"num_predict": 5, "top_k": 3}}),
        ("/api/embed", {"model": "embed", "input": ["a", "b"]}),
        ("/api/embeddings", {"model": "embed", "prompt": "a"}),
        ("/api/show", {}),
        ("/api/version", None),
        ("/api/tags", None),
        ("/api/ps", None),
    ],
)
async def test_what_is_sent_and_answered_is_what_it_says(path: str, body: Any, http: Http) -> None:
    async with http(serving()) as client:
        openapi = await described(client)
        asked = openapi["paths"][path]["get" if body is None else "post"]
        if body is None:
            answer = await client.get(path)
        else:
            body = {"model": "agent", **body}
            check(openapi, asked["requestBody"]["content"][JSON]["schema"], body)
            answer = await client.post(path, json=body)
    responses = asked["responses"]
    kind = answer.headers["content-type"].partition(";")[0]
    told = responses.get(str(answer.status_code), responses["default"])["content"][kind]["schema"]
    lines = answer.text.splitlines()
    data = [line.removeprefix("data: ") for line in lines if kind != EVENTS or line.startswith("data: ")]
    for value in data if kind in (EVENTS, LINES) else [answer.text]:
        check(openapi, told, json.loads(value))


@requirement("openapi.document")
async def test_a_path_of_two_apis_is_described_with_what_either_answers(http: Http) -> None:
    async with http(serving()) as client:
        openapi = await described(client)
        for path, called in (("/v1/models", "/v1/models?limit=1"), ("/v1/models/{model}", "/v1/models/agent")):
            asked = openapi["paths"][path]["get"]
            told = asked["responses"]["200"]["content"][JSON]["schema"]["anyOf"]
            assert asked["operationId"] in ("listModels", "retrieveModel")
            for schema, headers in zip(told, [{}, {"anthropic-version": "2023-06-01"}], strict=True):
                check(openapi, schema, (await client.get(called, headers=headers)).json())
            failed = (await client.get("/v1/models/other", headers=headers)).json()
            check(openapi, asked["responses"]["default"]["content"][JSON]["schema"]["anyOf"][1], failed)
    assert {"limit", "after_id", "before_id"} <= {
        one["name"] for one in openapi["paths"]["/v1/models"]["get"]["parameters"]
    }


@requirement("openapi.document")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", {"messages": SAID}),
        ("/v1/messages", {"max_tokens": "many", "messages": SAID}),
        ("/api/chat", {"messages": [{"role": "robot"}]}),
        ("/api/generate", {"prompt": 5}),
        ("/api/embed", {"input": 5}),
    ],
)
async def test_what_is_refused_is_not_valid_by_it_and_the_refusal_is(path: str, body: Any, http: Http) -> None:
    async with http(serving()) as client:
        openapi = await described(client)
        answer = await client.post(path, json={"model": "agent", **body})
    asked = openapi["paths"][path]["post"]
    with pytest.raises(jsonschema.ValidationError):
        check(openapi, asked["requestBody"]["content"][JSON]["schema"], {"model": "agent", **body})
    assert answer.status_code == 400
    check(openapi, asked["responses"]["default"]["content"][JSON]["schema"], answer.json())
