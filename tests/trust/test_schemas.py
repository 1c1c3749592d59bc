"""JSON Schemas from strangers, through every door that takes one: nothing outside is asked, and no check is without end."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from openai_compat import AgentRequest, Capabilities, Server
from openai_compat.backend import RunContext
from openai_compat_adapters.websocket import connect

from ..chat_socket.client import ChatSocket, chat
from ..interaction.requirements import requirement
from .forbidden import nothing_outside
from .loop import watched_loop
from .probe import JSON, in_process

pytestmark = pytest.mark.anyio

Answer: TypeAlias = tuple[int, str | None, str | None]
"""Status, code and param."""

Door: TypeAlias = Callable[[Server, Any], Awaitable[Answer]]


class Answering:
    """Says what it was made with, and counts."""

    capabilities = Capabilities(repairs_output=True)

    def __init__(self, text: str = "{}") -> None:
        self.text = text
        self.runs = 0
        self.read: list[str] = []

    async def run(self, request: AgentRequest, context: RunContext) -> Any:
        self.runs += 1
        self.read.append(json.dumps(request.raw_messages))
        yield self.text


async def post(server: Server, path: str, body: dict[str, Any]) -> Answer:
    async with in_process(server) as client:
        answer = await client.post(path, content=json.dumps(body), headers=JSON)
    error = answer.json().get("error") or {} if answer.headers["content-type"] == "application/json" else {}
    return answer.status_code, error.get("code"), error.get("param")


def asked(**fields: Any) -> dict[str, Any]:
    return {"model": "agent", "messages": [{"role": "user", "content": "hi"}], **fields}


def function(schema: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": schema}}


async def chat_format(server: Server, schema: Any) -> Answer:
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    return await post(server, "/v1/chat/completions", asked(response_format=form))


async def chat_tool(server: Server, schema: Any) -> Answer:
    return await post(server, "/v1/chat/completions", asked(tools=[function({"type": "object"}), named(schema)]))


def named(schema: Any) -> dict[str, Any]:
    tool = function(schema)
    tool["function"]["name"] = "g"
    return tool


def text_format(schema: Any) -> dict[str, Any]:
    return {"format": {"type": "json_schema", "name": "a", "schema": schema}}


async def responses_format(server: Server, schema: Any) -> Answer:
    return await post(server, "/v1/responses", {"model": "agent", "input": "hi", "text": text_format(schema)})


async def background_format(server: Server, schema: Any) -> Answer:
    body = {"model": "agent", "input": "hi", "text": text_format(schema), "background": True}
    return await post(server, "/v1/responses", body)


async def responses_tool(server: Server, schema: Any) -> Answer:
    tools = [{"type": "function", "name": "f", "parameters": schema}]
    return await post(server, "/v1/responses", {"model": "agent", "input": "hi", "tools": tools})


async def namespace_tool(server: Server, schema: Any) -> Answer:
    inner = [{"type": "function", "name": "f"}, {"type": "function", "name": "g", "parameters": schema}]
    tools = [{"type": "namespace", "name": "n", "description": "", "tools": inner}]
    return await post(server, "/v1/responses", {"model": "agent", "input": "hi", "tools": tools})


async def over_responses_socket(server: Server, **fields: Any) -> Answer:
    async with connect(server, "/v1/responses") as socket:
        await socket.send(json.dumps({"type": "response.create", "model": "agent", "input": "hi", **fields}))
        while True:
            event = json.loads(await socket.receive())
            if event["type"] == "response.completed":
                return 200, None, None
            if event["type"] in ("error", "response.failed"):
                error = event.get("error") or event["response"]["error"]
                return event.get("status", 500), error["code"], error.get("param")


async def responses_socket_format(server: Server, schema: Any) -> Answer:
    return await over_responses_socket(server, text=text_format(schema))


async def responses_socket_tool(server: Server, schema: Any) -> Answer:
    return await over_responses_socket(server, tools=[{"type": "function", "name": "f", "parameters": schema}])


async def over_chat_socket(server: Server, **fields: Any) -> Answer:
    async with chat(server) as client:
        await client.send(**fields)
        sent = await client.pong() if "role" not in fields else await client.until()
    error = sent[-1].get("error") or {} if sent else {}
    return (sent[-1].get("status", 200) if sent else 200), error.get("code"), error.get("param")


async def chat_socket_format(server: Server, schema: Any) -> Answer:
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    return await over_chat_socket(server, role="user", content="hi", response_format=form)


async def chat_socket_tool(server: Server, schema: Any) -> Answer:
    return await over_chat_socket(server, role="user", content="hi", tools=[function(schema)])


async def chat_socket_manifest(server: Server, schema: Any) -> Answer:
    tools = [{"name": "f", "parameters": schema}]
    return await over_chat_socket(server, type="client_tools_manifest", tools=tools)


DOORS: dict[str, tuple[Door, str]] = {
    "chat response_format": (chat_format, "response_format.json_schema.schema"),
    "chat tool": (chat_tool, "tools[1].function.parameters"),
    "Responses text.format": (responses_format, "text.format.schema"),
    "Responses in the background": (background_format, "text.format.schema"),
    "Responses tool": (responses_tool, "tools[0].parameters"),
    "Responses tool in a namespace": (namespace_tool, "tools[0].tools[1].parameters"),
    "Responses WebSocket text.format": (responses_socket_format, "text.format.schema"),
    "Responses WebSocket tool": (responses_socket_tool, "tools[0].parameters"),
    "chat WebSocket response_format": (chat_socket_format, "response_format.json_schema.schema"),
    "chat WebSocket tool": (chat_socket_tool, "tools[0].function.parameters"),
    "chat WebSocket manifest": (chat_socket_manifest, "tools[0].parameters"),
}
doors = pytest.mark.parametrize(("door", "param"), DOORS.values(), ids=DOORS)

HERE = Path(__file__)
ADDRESS = "http://127.0.0.1:9/schema.json"


def outside() -> Iterator[tuple[str, Any]]:
    for address in (
        ADDRESS,
        HERE.as_uri(),
        str(HERE),
        "other.json",
        "//127.0.0.1/a",
        "urn:a:b",
        "data:,{}",
        "http://[",
    ):
        yield address, {"$ref": address}
    yield "below properties", {"type": "object", "properties": {"a": {"items": {"$ref": ADDRESS}}}}
    yield "with a place", {"$ref": f"{ADDRESS}#/$defs/a", "$defs": {"a": {}}}
    yield "$dynamicRef", {"allOf": [{"$dynamicRef": f"{ADDRESS}#meta"}]}
    yield "$recursiveRef", {"$recursiveRef": ADDRESS}
    yield "$id", {"$id": ADDRESS, "properties": {"a": {"$ref": "other.json"}}}
    yield "$id below", {"$defs": {"a": {"$id": "http://127.0.0.1:9/b/", "not": {"$ref": "c"}}}}
    yield "$id that hides a place", {"$defs": {"a": {"$id": ADDRESS, "$ref": "#/$defs/b"}, "b": {}}}
    yield "a metaschema", {"$schema": ADDRESS, "$ref": ADDRESS}
    yield "the metaschema", {"$ref": "https://json-schema.org/draft/2020-12/schema"}
    yield "patternProperties", {"patternProperties": {"^a": {"$ref": ADDRESS}}}
    yield (
        "an older draft",
        {"definitions": {"a": {"items": [{"$ref": ADDRESS}]}}, "dependencies": {"a": {"type": "null"}}},
    )
    yield "a place of no keyword", {"$ref": "#/x/y", "x": {"y": {"$ref": ADDRESS}}}


def nowhere() -> Iterator[tuple[str, Any]]:
    yield "a name", {"properties": {"a": {"$ref": "#/$defs/none"}}}
    yield "an anchor", {"$ref": "#none"}
    yield "text", {"$ref": "#/title", "title": "a"}
    yield "a number", {"properties": {"a": {"$ref": 7}}}
    yield "no escape", {"$ref": "#/$defs/a~1b", "$defs": {"a": {}}}
    yield "past a list", {"$ref": "#/allOf/1", "allOf": [{}]}
    yield "very long", {"$ref": "#" + "/a" * 100_000}


def in_circles() -> Iterator[tuple[str, Any]]:
    yield "itself", {"$ref": "#"}
    yield (
        "one another",
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}},
    )
    yield "not", {"type": "object", "properties": {"a": {"not": {"$ref": "#/properties/a"}}}}
    yield "if", {"if": {"$recursiveRef": "#"}}
    yield "$dynamicRef", {"$dynamicAnchor": "a", "oneOf": [{"$dynamicRef": "#a"}]}
    many = {f"a{i}": {"$ref": f"#/$defs/a{(i + 1) % 2000}"} for i in range(2000)}
    yield "a long one", {"$ref": "#/$defs/a0", "$defs": many}


WRONG = [*outside(), *nowhere(), *in_circles()]


@requirement("schemas.inside")
@pytest.mark.parametrize("name", [name for name, _ in WRONG])
@doors
async def test_a_reference_that_leads_out_or_to_nothing_or_around_is_refused_before_an_agent_runs(
    door: Door, param: str, name: str
) -> None:
    agent = Answering()
    server = Server(agent, chat_socket=ChatSocket())
    await door(server, {"type": "object"})  # whatever is imported late is there now
    agent.runs = 0
    with nothing_outside(), watched_loop():
        answer = await door(server, dict(WRONG)[name])
    assert answer == (400, "invalid_json_schema", param)
    assert agent.runs == 0
