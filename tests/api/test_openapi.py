"""The OpenAPI document: `GET /openapi.json`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from openai_compat import (
    Capabilities,
    ChatRest,
    Citation,
    Compacted,
    Conversations,
    Finished,
    MediaDelta,
    Notice,
    Paused,
    PendingCall,
    Progress,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallReady,
    ToolResult,
    UsageReported,
)
from tests.api.chat.test_params import EVERY_PARAMETER, OUT_OF_RANGE
from tests.api.chat.test_stream import CASES
from tests.connecting import Http, in_process
from tests.requirements import requirement
from tests.support.agents import HELLO, Says
from tests.support.listening import data_of

pytestmark = pytest.mark.anyio

METHODS = {"get", "post", "delete"}


async def document(http: Http) -> dict[str, Any]:
    async with http(Says("Hi"), keys="secret") as client:
        answer = await client.get("/openapi.json")  # without the key
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def check(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    """Raise ValidationError unless `value` matches a schema of the document."""
    whole = {**schema, "components": document["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)


def described(document: dict[str, Any], path: str, kind: str) -> dict[str, Any]:
    """The schema of the answer to `POST path` with media type `kind`."""
    schema: dict[str, Any] = document["paths"][path]["post"]["responses"]["200"]["content"][kind]["schema"]
    return schema


@requirement("openapi.document")
async def test_it_is_open_without_a_key_and_everything_it_refers_to_is_there(http: Http) -> None:
    openapi = await document(http)
    assert openapi["openapi"] == "3.1.0"
    assert {"title", "version"} <= set(openapi["info"])
    for reference in references(openapi):
        target: Any = openapi
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]


@requirement("openapi.document")
@in_process
async def test_its_schemas_are_json_schemas_and_its_operations_are_whole(http: Http) -> None:
    openapi = await document(http)
    for schema in openapi["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for path, item in openapi["paths"].items():
        assert set(item) <= METHODS
        for operation in item.values():
            assert operation["responses"]
            assert all("description" in response for response in operation["responses"].values())
            named = {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "path"}
            assert named == {step[1:-1] for step in path.split("/") if step.startswith("{")}
    used = {name for operation in [openapi["security"], *_securities(openapi)] for entry in operation for name in entry}
    assert used == set(openapi["components"]["securitySchemes"])


def _securities(openapi: dict[str, Any]) -> Iterator[Any]:
    for item in openapi["paths"].values():
        for operation in item.values():
            yield operation.get("security", [])


@requirement("openapi.document")
@in_process
async def test_every_route_is_described_and_every_described_one_is_there(http: Http) -> None:
    openapi = await document(http)
    assert {(method.upper(), path) for path, item in openapi["paths"].items() for method in item} == {
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/chat/completions"),
        ("GET", "/v1/chat/completions/{completion_id}"),
        ("POST", "/v1/chat/completions/{completion_id}"),
        ("DELETE", "/v1/chat/completions/{completion_id}"),
        ("GET", "/v1/chat/completions/{completion_id}/messages"),
        ("GET", "/v1/chat/conversations/{conversation_id}"),
        ("DELETE", "/v1/chat/conversations/{conversation_id}"),
        ("POST", "/v1/completions"),
        ("POST", "/v1/conversations"),
        ("GET", "/v1/conversations/{conversation_id}"),
        ("POST", "/v1/conversations/{conversation_id}"),
        ("DELETE", "/v1/conversations/{conversation_id}"),
        ("GET", "/v1/conversations/{conversation_id}/items"),
        ("POST", "/v1/conversations/{conversation_id}/items"),
        ("GET", "/v1/conversations/{conversation_id}/items/{item_id}"),
        ("DELETE", "/v1/conversations/{conversation_id}/items/{item_id}"),
        ("POST", "/v1/decisions"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/files"),
        ("GET", "/v1/files"),
        ("GET", "/v1/files/{file_id}"),
        ("DELETE", "/v1/files/{file_id}"),
        ("GET", "/v1/files/{file_id}/content"),
        ("POST", "/v1/responses"),
        ("POST", "/v1/responses/compact"),
        ("POST", "/v1/responses/input_tokens"),
        ("GET", "/v1/responses/{response_id}"),
        ("DELETE", "/v1/responses/{response_id}"),
        ("POST", "/v1/responses/{response_id}/cancel"),
        ("GET", "/v1/responses/{response_id}/input_items"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/{model}"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
    }
    async with http(Says("Hi"), conversations=Conversations()) as client:
        for path, item in openapi["paths"].items():
            for method in item:
                answer = await client.request(method.upper(), path.replace("{model}", "agent"), json={})
                form = "multipart/form-data" in item[method].get("requestBody", {}).get("content", {})
                assert answer.status_code in (200, 415 if form else 400) or "not_found" in answer.text, path


@requirement("openapi.matches")
@in_process
async def test_requests_are_valid_by_it_exactly_where_the_server_takes_them(http: Http) -> None:
    openapi = await document(http)
    schema = openapi["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    base: dict[str, Any] = {"model": "agent", "messages": HELLO}
    check(openapi, schema, base | EVERY_PARAMETER)
    beyond_a_schema = {"n", "top_logprobs", "tools", "tool_choice", "store", "messages", "audio"}
    for fields, param in OUT_OF_RANGE:
        if param.partition(".")[0].partition("[")[0] not in beyond_a_schema:
            with pytest.raises(jsonschema.ValidationError):
                check(openapi, schema, base | fields)


@requirement("openapi.matches")
@pytest.mark.parametrize("name", CASES)
@in_process
async def test_answers_and_chunks_are_valid_by_it(name: str, http: Http) -> None:
    openapi, case, path = await document(http), CASES[name], "/v1/chat/completions"
    body = {"model": "agent", "messages": HELLO, **case.ask, "stream_options": {"include_usage": True}}
    async with http(Says(*case.items)) as client:
        plain = await client.post(path, json=body)
        streamed = await client.post(path, json=body | {"stream": True})
    check(openapi, described(openapi, path, "application/json"), plain.json())
    for event in data_of(streamed.text)[:-1]:
        check(openapi, described(openapi, path, "text/event-stream"), json.loads(event))


@requirement("openapi.matches")
@in_process
async def test_all_other_answers_are_valid_by_it(http: Http) -> None:
    openapi = await document(http)
    completion = described(openapi, "/v1/completions", "application/json")
    async with http(Says("Hi", UsageReported(1, 2, 3, 4))) as client:
        ask = {"model": "agent", "prompt": "x", "stream_options": {"include_usage": True}}
        check(openapi, completion, (await client.post("/v1/completions", json=ask)).json())
        streamed = await client.post("/v1/completions", json=ask | {"stream": True})
        for event in data_of(streamed.text)[:-1]:
            check(openapi, completion, json.loads(event))
        for path, called in (("/v1/models", "/v1/models"), ("/v1/models/{model}", "/v1/models/agent")):
            schema = openapi["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
            check(openapi, schema, (await client.get(called)).json())
        error = openapi["paths"]["/v1/models/{model}"]["get"]["responses"]["default"]["content"]["application/json"]
        check(openapi, error["schema"], (await client.get("/v1/models/other")).json())


@requirement("openapi.matches")
@in_process
async def test_files_conversations_and_embeddings_are_valid_by_it(http: Http) -> None:
    openapi = await document(http)
    items = [
        {"role": "user", "content": "Hi"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "hologram"},
    ]
    async with http(Says("Hi"), embeddings={"small": lambda texts: [[1.0]]}) as client:
        created = {"items": items, "metadata": {"a": "b"}}
        conversation = (await client.post("/v1/conversations", json=created)).json()
        added = {"items": items}
        file = (await client.post("/v1/files", files={"file": ("a", b"x")}, data={"purpose": "batch"})).json()
        asked = {"model": "small", "input": ["a"], "encoding_format": "base64"}
        sent = {
            "/v1/conversations": created,
            "/v1/conversations/{conversation_id}/items": added,
            "/v1/embeddings": asked,
        }
        for path, body in sent.items():
            check(openapi, openapi["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"], body)
        for method, path, body in (
            ("post", "/v1/conversations", created),
            ("get", "/v1/conversations/{conversation_id}", None),
            ("post", "/v1/conversations/{conversation_id}", {"metadata": {}}),
            ("post", "/v1/conversations/{conversation_id}/items", added),
            ("get", "/v1/conversations/{conversation_id}/items", None),
            ("delete", "/v1/conversations/{conversation_id}", None),
            ("post", "/v1/embeddings", asked),
            ("get", "/v1/files", None),
            ("get", "/v1/files/{file_id}", None),
            ("delete", "/v1/files/{file_id}", None),
        ):
            called = path.replace("{conversation_id}", conversation["id"]).replace("{file_id}", file["id"])
            answer = await client.request(method, called, json=body)
            assert answer.status_code == 200, (path, answer.content)
            schema = openapi["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]
            check(openapi, schema, answer.json())


LOOK = {"type": "function", "name": "look", "parameters": {"type": "object"}}
TURNS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "text": (["Hello, ", TextDelta("Bob", phase="final_answer"), UsageReported(3, 4)], {}),
    "nothing": ([], {"instructions": "Be brief.", "metadata": {"a": "b"}}),
    "thinking": ([ReasoningDelta("Hm."), "Yes."], {"reasoning": {"effort": "low"}}),
    "a refusal": ([RefusalDelta("No.")], {}),
    "a citation": (["See A.", Citation("http://a/", "A", 4, 5)], {}),
    "a picture": (["Look:", MediaDelta(b"abc", "image/png")], {}),
    "speech": ([MediaDelta(b"a", "audio/wav", "Hi")], {}),
    "the client's tool": ([ToolCallReady("c", "look", "{}")], {"tools": [LOOK], "tool_choice": "required"}),
    "a custom tool": ([ToolCallReady("c", "code", "1")], {"tools": [{"type": "custom", "name": "code"}]}),
    "the agent's tool": ([ToolCallReady("t", "search", "{}"), ToolResult("t", "42"), "42"], {}),
    "a failed tool": ([ToolCallReady("t", "search", "{}"), ToolResult("t", "no", is_error=True), "Sorry."], {}),
    "an approval": (
        [Paused((PendingCall("c", "pay", "{}", "approval"),))],
        {"tools": [{"type": "mcp", "server_label": "agent", "server_url": "http://a/"}]},
    ),
    "a summary": ([Compacted("All was said."), "Done."], {}),
    "progress": ([Progress("step", "s", "Adding"), Notice("Full.", "warning"), "Done."], {}),
    "cut": (["Half", Finished("length")], {}),
    "failed": (["Half", ValueError("text")], {}),
}


@requirement("openapi.matches")
@pytest.mark.parametrize("name", TURNS)
@in_process
async def test_responses_and_their_events_are_valid_by_it(name: str, http: Http) -> None:
    openapi, (items, more), path = await document(http), TURNS[name], "/v1/responses"
    body = {"model": "agent", "input": [{"role": "user", "content": "Hello"}], **more}
    check(openapi, openapi["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"], body)
    async with http(Says(*items, paced=True)) as client:
        plain = await client.post(path, json=body)
        streamed = await client.post(path, json=body | {"stream": True})
    if name == "failed":
        check(openapi, openapi["components"]["schemas"]["ErrorEnvelope"], plain.json())
    else:
        check(openapi, described(openapi, path, "application/json"), plain.json())
    events = [json.loads(line[6:]) for line in streamed.text.splitlines() if line.startswith("data: {")]
    for event in events:
        check(openapi, described(openapi, path, "text/event-stream"), event)
    check(openapi, openapi["components"]["schemas"]["Response"], events[-1]["response"])


@requirement("openapi.matches")
@in_process
async def test_what_else_is_asked_about_responses_is_valid_by_it(http: Http) -> None:
    openapi = await document(http)
    async with http(Says("A summary.")) as client:
        asked = {"model": "agent", "input": "Hello"}
        made = (await client.post("/v1/responses", json=asked | {"background": True})).json()
        for method, path, body in (
            ("post", "/v1/responses/compact", asked),
            ("post", "/v1/responses/input_tokens", asked),
            ("get", "/v1/responses/{response_id}/input_items", None),
            ("post", "/v1/responses/{response_id}/cancel", None),
            ("get", "/v1/responses/{response_id}", None),
            ("delete", "/v1/responses/{response_id}", None),
        ):
            operation = openapi["paths"][path][method]
            if body is not None:
                check(openapi, operation["requestBody"]["content"]["application/json"]["schema"], body)
            answer = await client.request(method, path.replace("{response_id}", made["id"]), json=body)
            assert answer.status_code == 200, (path, answer.content)
            check(openapi, operation["responses"]["200"]["content"]["application/json"]["schema"], answer.json())


@requirement("openapi.names")
@in_process
async def test_schemas_and_operations_have_names_that_people_would_give(http: Http) -> None:
    async with http(Says("Hi"), chat_rest=ChatRest()) as client:
        openapi = (await client.get("/openapi.json")).json()
    operations = [operation for item in openapi["paths"].values() for operation in item.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(name.isalpha() and name[0].islower() for name in names)
    schemas = openapi["components"]["schemas"]
    assert all(name.isalnum() and name[0].isupper() for name in schemas)
    assert all(schema.get("title", name) in (name, f"{name}Object") for name, schema in schemas.items())


@requirement("openapi.security")
@in_process
async def test_it_says_which_keys_are_needed_and_where_none_is(http: Http) -> None:
    async with http(Says("Hi"), keys="secret", public=["models"], chat_rest=ChatRest(cookie="session")) as client:
        openapi = (await client.get("/openapi.json")).json()
        for path in ("/healthz", "/v1/models", "/v1/files", "/api/chat/models"):
            operation = openapi["paths"][path]["get"]
            open_ = operation.get("security", openapi["security"]) == []
            assert ((await client.get(path)).status_code == 200) is open_
        for scheme in openapi["paths"]["/api/chat/models"]["get"]["security"]:
            [(name, _)] = scheme.items()
            about = openapi["components"]["securitySchemes"][name]
            headers = {
                "bearer": {"authorization": "Bearer secret"},
                "apiKey": {about.get("name", ""): "secret"},
                "cookie": {"cookie": f"{about.get('name')}=secret"},
            }[name]
            assert (await client.get("/api/chat/models", headers=headers)).status_code == 200
    async with http(Says("Hi")) as client:
        openapi = (await client.get("/openapi.json")).json()
    assert "security" not in openapi
    assert "securitySchemes" not in openapi["components"]


CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
COMPACT, TOKENS, CONVERSATIONS = "/v1/responses/compact", "/v1/responses/input_tokens", "/v1/conversations"
SAID: dict[str, dict[str, Any]] = {
    CHAT: {"model": "agent", "messages": HELLO},
    COMPLETIONS: {"model": "agent", "prompt": "Hi"},
    RESPONSES: {"model": "agent", "input": "Hi"},
    COMPACT: {"model": "agent", "input": "Hi"},
    TOKENS: {"model": "agent", "input": "Hi"},
    CONVERSATIONS: {},
}
DOCUMENT = {"type": "input_file", "file_data": "data:text/plain;base64,SGk="}
CONDITIONS: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"functions": []}),
    (CHAT, {"function_call": "auto"}),
    (CHAT, {"functions": None, "function_call": None}),
    (CHAT, {"top_logprobs": 1}),
    (CHAT, {"top_logprobs": None}),
    (CHAT, {"top_logprobs": 1, "logprobs": True}),
    (CHAT, {"modalities": ["audio"]}),
    (CHAT, {"modalities": ["text"]}),
    (CHAT, {"modalities": ["audio"], "audio": {"format": "wav", "voice": "a"}}),
    (CHAT, {"n": 8}),
    (CHAT, {"n": 9}),
    (CHAT, {"input": "Hi"}),
    (CHAT, {"background": False}),
    (CHAT, {"background": True}),
    (COMPLETIONS, {"suffix": "x"}),
    (COMPLETIONS, {"logprobs": 1}),
    (COMPLETIONS, {"best_of": 2}),
    (COMPLETIONS, {"best_of": 1}),
    (COMPLETIONS, {"prompt": []}),
    (COMPLETIONS, {"prompt": [1]}),
    (COMPLETIONS, {"prompt": ["a"] * 8}),
    (COMPLETIONS, {"prompt": ["a"] * 9}),
    (COMPLETIONS, {"tools": []}),
    (COMPLETIONS, {"tools": [{}]}),
    (RESPONSES, {"input": None}),
    (RESPONSES, {"input": []}),
    (RESPONSES, {"input": None, "generate": False}),
    (RESPONSES, {"input": None, "prompt_cache_options": {"prewarm": True}}),
    (RESPONSES, {"input": None, "prompt_cache_options": {}}),
    (RESPONSES, {"input": None, "prompt_cache_options": None}),
    (RESPONSES, {"prompt": {"id": "x"}}),
    (RESPONSES, {"conversation": "c", "previous_response_id": "r"}),
    (RESPONSES, {"background": True, "store": False}),
    (RESPONSES, {"background": True}),
    (RESPONSES, {"max_tokens": 5}),
    (RESPONSES, {"n": 1}),
    (RESPONSES, {"tools": [{"type": "function"}]}),
    (RESPONSES, {"tools": [{"type": "web_search"}]}),
    (RESPONSES, {"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}}),
    (RESPONSES, {"tools": [{"type": "web_search"}], "tool_choice": {"type": "function"}}),
    (RESPONSES, {"input": [{"role": "user", "content": [DOCUMENT]}]}),
    (RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_file"}]}]}),
    (RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": None}]}]}),
    (RESPONSES, {"input": [{"type": "function_call", "name": "f"}]}),
    (RESPONSES, {"input": [{"id": "x", "role": "nobody"}]}),
    (COMPACT, {"input": None, "conversation": "c"}),
    (TOKENS, {"input": None, "generate": False}),
    (CONVERSATIONS, {"items": [{"role": "user", "content": "Hi"}]}),
    (CONVERSATIONS, {"items": [{"type": "item_reference", "id": "x"}]}),
    (CONVERSATIONS, {"items": [{"type": "item_reference", "id": "x", "role": "user", "content": ""}]}),
    (CONVERSATIONS, {"items": [{"id": "x"}]}),
    (CONVERSATIONS, {"items": [{"type": "compaction_trigger"}]}),
    (CONVERSATIONS, {"items": [{"type": "hologram"}]}),
]


class Everything(Says):
    capabilities = Capabilities(**dict.fromkeys(("logprobs", "audio_output", "client_tools", "files", "vision"), True))


@requirement("openapi.strict")
@pytest.mark.parametrize(("path", "fields"), CONDITIONS)
@in_process
async def test_it_is_as_strict_as_the_server(path: str, fields: dict[str, Any], http: Http) -> None:
    body = {**SAID[path], **fields}
    async with http(Everything("Hi")) as client:
        openapi = (await client.get("/openapi.json")).json()
        answer = await client.post(path, json=body)
    asked = openapi["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert jsonschema.Draft202012Validator({**asked, "components": openapi["components"]}).is_valid(body) is (
        answer.status_code != 400
    ), answer.text
