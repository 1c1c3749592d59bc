"""JSON Schemas from strangers, in every field that accepts one: nothing external is fetched, and every check is bounded."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openai_compat import AgentRequest, Capabilities, Server
from openai_compat.backend import RunContext
from openai_compat.wire.json_schema import InvalidSchema, Schema, TooManySteps
from openai_compat_adapters.websocket import connect
from tests.api.chat_websocket.client import ChatWebSocket, chat
from tests.requirements import requirement
from tests.trust.forbidden import nothing_outside
from tests.trust.loop import watched_loop
from tests.trust.probe import JSON, in_process

pytestmark = pytest.mark.anyio

Answer: TypeAlias = tuple[int, str | None, str | None]
"""Status, code and param."""

Door: TypeAlias = Callable[[Server, Any], Awaitable[Answer]]


class Answering:
    """Answers with a fixed text, and counts its runs."""

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
        answer = await client.post(path, content=json.dumps(body), headers=JSON, timeout=60)
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


async def over_chat_websocket(server: Server, **fields: Any) -> Answer:
    async with chat(server) as client:
        await client.send(**fields)
        sent = await client.pong() if "role" not in fields else await client.until()
    error = sent[-1].get("error") or {} if sent else {}
    return (sent[-1].get("status", 200) if sent else 200), error.get("code"), error.get("param")


async def chat_websocket_format(server: Server, schema: Any) -> Answer:
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    return await over_chat_websocket(server, role="user", content="hi", response_format=form)


async def chat_websocket_tool(server: Server, schema: Any) -> Answer:
    return await over_chat_websocket(server, role="user", content="hi", tools=[function(schema)])


async def chat_websocket_manifest(server: Server, schema: Any) -> Answer:
    tools = [{"name": "f", "parameters": schema}]
    return await over_chat_websocket(server, type="client_tools_manifest", tools=tools)


DOORS: dict[str, tuple[Door, str]] = {
    "chat response_format": (chat_format, "response_format.json_schema.schema"),
    "chat tool": (chat_tool, "tools[1].function.parameters"),
    "Responses text.format": (responses_format, "text.format.schema"),
    "Responses in the background": (background_format, "text.format.schema"),
    "Responses tool": (responses_tool, "tools[0].parameters"),
    "Responses tool in a namespace": (namespace_tool, "tools[0].tools[1].parameters"),
    "Responses WebSocket text.format": (responses_socket_format, "text.format.schema"),
    "Responses WebSocket tool": (responses_socket_tool, "tools[0].parameters"),
    "chat WebSocket response_format": (chat_websocket_format, "response_format.json_schema.schema"),
    "chat WebSocket tool": (chat_websocket_tool, "tools[0].function.parameters"),
    "chat WebSocket manifest": (chat_websocket_manifest, "tools[0].parameters"),
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


WRONG = [*outside(), *nowhere()]


@requirement("schemas.inside")
@doors
async def test_a_reference_that_leads_out_or_to_nothing_is_refused_before_an_agent_runs(door: Door, param: str) -> None:
    agent = Answering()
    server = Server(agent, chat_websocket=ChatWebSocket())
    await door(server, {"type": "object"})  # triggers every late import
    await anyio.wait_all_tasks_blocked()  # a background response begins after the answer
    agent.runs = 0
    wrong = [*WRONG, *in_circles()] if "format" in door.__name__ else WRONG  # tools are passed on unchecked
    with nothing_outside(), watched_loop():
        answers = {name: await door(server, schema) for name, schema in wrong}
    assert answers == dict.fromkeys(answers, (400, "invalid_json_schema", param))
    assert agent.runs == 0


def inside() -> Iterator[tuple[str, Any]]:
    older = {"definitions": {"a": {"type": "object"}}, "allOf": [{"$ref": "#/definitions/a"}], "items": [{}]}
    yield "an older draft", {"$schema": "http://json-schema.org/draft-07/schema#", **older}
    yield "a foreign metaschema", {"$schema": ADDRESS, "type": "object"}
    yield "a tree", {"properties": {"children": {"items": {"$ref": "#"}}}}
    yield (
        "an address of its own",
        {"$id": ADDRESS, "properties": {"a": {"$ref": "schema.json#/$defs/b"}}, "$defs": {"b": {}}},
    )
    yield "a resource in it", {"$id": ADDRESS, "properties": {"a": {"$ref": "b"}}, "$defs": {"b": {"$id": "/b"}}}
    yield "an anchor", {"properties": {"a": {"$ref": "#b"}}, "$defs": {"b": {"$anchor": "b"}}}
    yield "escapes", {"properties": {"a": {"$ref": "#/$defs/a~1b%25"}}, "$defs": {"a/b%": {}}}
    yield (
        "data that looks like a reference",
        {"properties": {"a": {"enum": [{"$ref": ADDRESS}]}, "$ref": {"type": "string"}}},
    )
    for pattern in (r"\p{L}+", r"(?<year>\d{4})", "^(a+)+$", "[", "(?P<x>", "(((a{1,99}){1,99}){1,99}){1,99}"):
        yield f"pattern {pattern}", {"properties": {"a": {"pattern": pattern}}, "patternProperties": {pattern: {}}}
    yield "patterns and others", {"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}
    doubled = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(60)}
    yield "doubled", {"$ref": "#/$defs/a0", "$defs": {**doubled, "a60": {"type": "object"}}}
    forked = {
        f"a{i}": {"oneOf": [{"$ref": f"#/$defs/a{i + 1}"}, {"anyOf": [{"$ref": f"#/$defs/a{i + 1}"}]}, {"const": i}]}
        for i in range(40)
    }
    yield (
        "forked",
        {"anyOf": [{"type": "object"}, {"$ref": "#/$defs/a0"}], "$defs": {**forked, "a40": {"type": "object"}}},
    )
    yield "a wide enum", {"anyOf": [{"enum": [(2**61 - 1) * i for i in range(20_000)]}, {"type": "object"}]}
    yield "numbers of one hash", {"properties": {"a": {"uniqueItems": True, "contains": {"const": 1}}}}
    deep: Any = {}
    for _ in range(60):
        deep = {"properties": {"a": deep}, "unevaluatedProperties": False}
    yield "deep", deep


@requirement("schemas.inside")
@doors
async def test_all_other_schemas_are_taken_and_nothing_is_fetched_compiled_or_done_twice(
    door: Door, param: str
) -> None:
    server = Server(Answering(), chat_websocket=ChatWebSocket())
    await door(server, {"type": "object"})
    with nothing_outside(), watched_loop():
        answers = {name: await door(server, schema) for name, schema in inside()}
    assert answers == dict.fromkeys(answers, (200, None, None))


@requirement("schemas.inside")
async def test_the_text_of_a_file_never_reaches_the_agent() -> None:
    agent = Answering("no JSON")
    answer = await responses_format(Server(agent), {"$ref": HERE.as_uri()})
    assert (answer[0], agent.read) == (400, [])


@requirement("schemas.inside")
async def test_a_grammar_for_a_tool_of_free_text_is_handed_over_as_it_is() -> None:
    grammar = {"type": "grammar", "syntax": "regex", "definition": "^(a+)+$("}
    tools = [{"type": "custom", "name": "f", "format": grammar}]
    assert await post(Server(Answering()), "/v1/responses", {"model": "agent", "input": "hi", "tools": tools}) == (
        200,
        None,
        None,
    )


HEAVY = {"items": {"anyOf": [{"properties": {"a": {"const": i}}, "required": ["a"]} for i in range(400)]}}


@requirement("schemas.bounded")
async def test_an_answer_whose_check_would_take_too_long_fails_for_the_schema_and_others_go_on_meanwhile() -> None:
    answer = json.dumps([{"a": -1}] * 2 + [{"a": i} for i in range(5_000)])
    server = Server(Answering(answer))
    await responses_format(server, {"type": "array"})
    with watched_loop():
        assert await responses_format(server, {"not": {"not": HEAVY}}) == (
            400,
            "invalid_json_schema",
            "text.format.schema",
        )


@requirement("schemas.bounded")
@pytest.mark.parametrize(
    "answer",
    ["[" * 100_000, "1" * 5_000, '{"a": NaN}', "1e999", f"[{'[],' * 200_000}[]]", '"\\ud800"', "{" * 300],
)
async def test_an_answer_that_is_no_json_or_too_much_of_it_is_the_agents_failure(answer: str) -> None:
    with watched_loop():
        found = await responses_format(Server(Answering(answer)), {"type": "object"})
    assert found[:2] == (502, "invalid_output")


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.sampled_from([0, 1, 1.0, -2, 2.5, 10**20]) | st.sampled_from(["", "a", "b", "ab"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=8,
)


SMALL = st.integers(0, 3)
KEYWORDS: dict[str, st.SearchStrategy[Any]] = {
    "type": st.sampled_from(["object", "array", "string", "number", "integer", "null", ["boolean", "string"]]),
    "enum": st.lists(JSON_VALUES, max_size=3),
    "const": JSON_VALUES,
    "multipleOf": st.sampled_from([1, 0.5, 2]),
    "uniqueItems": st.booleans(),
    "required": st.lists(st.sampled_from(["a", "b"]), unique=True, max_size=2),
    "$ref": st.sampled_from(["#/$defs/x", "#y"]),
    "dependentRequired": st.just({"a": ["b"]}),
    **dict.fromkeys(["minimum", "exclusiveMaximum", "maxLength", "minItems", "maxProperties"], SMALL),
}


def some(keywords: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """A schema with up to three of these keywords."""
    return st.lists(
        st.sampled_from(sorted(keywords)).flatmap(lambda k: st.tuples(st.just(k), keywords[k])), max_size=3
    ).map(dict)


def with_more(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    several = st.lists(inner, min_size=1, max_size=3)
    named = st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=2)
    single = ["not", "if", "then", "else", "items", "contains", "additionalProperties", "propertyNames"]
    return some(
        {
            **KEYWORDS,
            **dict.fromkeys(["allOf", "anyOf", "oneOf", "prefixItems"], several),
            **dict.fromkeys(["properties", "dependentSchemas"], named),
            **dict.fromkeys([*single, "unevaluatedProperties", "unevaluatedItems"], inner),
            **dict.fromkeys(["minContains", "maxContains"], SMALL),
        }
    )


SCHEMAS = st.recursive(st.booleans() | some(KEYWORDS), with_more, max_leaves=6)


@requirement("schemas.bounded")
@settings(max_examples=200)
@given(
    with_more(SCHEMAS),
    SCHEMAS,
    SCHEMAS,
    st.lists(JSON_VALUES, min_size=1, max_size=5),
)
def test_values_fit_the_schemas_that_jsonschema_says_they_fit(
    schema: dict[str, Any], first: Any, second: Any, values: list[Any]
) -> None:
    whole = {**schema, "$defs": {"x": first, "y": {"$anchor": "y", "items": second}}}
    try:
        ours = Schema(whole)
    except InvalidSchema:
        return  # circular references
    theirs = jsonschema.Draft202012Validator(whole)
    for value in values:
        assert (ours.problem(value, 100_000) is None) == theirs.is_valid(value), value


def test_what_a_pattern_hides_is_not_held_against_an_answer() -> None:
    for schema in (
        {"not": {"pattern": "^b"}},
        {"oneOf": [{"pattern": "^a"}, {"pattern": "^b"}]},
        {"if": {"pattern": "^b"}, "then": False},
        {"patternProperties": {"^a": {}}, "additionalProperties": False, "type": "object"},
        {"contains": {"pattern": "b"}, "maxContains": 0, "minContains": 0},
    ):
        value: Any = {"a": 1} if schema.get("type") == "object" else ["abc"] if "contains" in schema else "abc"
        assert Schema(schema).problem(value, 1000) is None, schema


def test_a_problem_is_told_with_its_place_in_few_words() -> None:
    schema = Schema({"properties": {"a": {"items": {"anyOf": [{"type": "string"}, {"required": ["b c"]}]}}}})
    assert schema.problem({"a": ["x", {"d": 1}]}, 1000) == "At $.a[1]: an object fits none of the schemas for it"
    assert Schema({"enum": [1]}).problem("x" * 10**6, 10**6) == f"At $: \"{'x' * 59}… is none of the values of 'enum'"


@given(JSON_VALUES, st.integers(0, 60))
def test_a_check_never_takes_more_steps_than_it_may(value: Any, steps: int) -> None:
    doubled = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(50)}
    schema = Schema({"$ref": "#/$defs/a0", "$defs": {**doubled, "a50": True}})
    assert schema.problem(value, 500) is None
    with pytest.raises(TooManySteps):
        schema.problem(value, steps)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "any"},
        {"type": []},
        {"properties": []},
        {"properties": {"a": []}},
        {"allOf": []},
        {"anyOf": [1]},
        {"required": "a"},
        {"minimum": "1"},
        {"multipleOf": 0},
        {"maxItems": -1},
        {"maxLength": 1.5},
        {"uniqueItems": 1},
        {"enum": 1},
        {"pattern": 1},
        {"$id": 1},
        {"items": {"not": 1}},
        {"properties": {f"p{i}": {} for i in range(10_000)}},
        {"$id": "http://[", "$defs": {"a": {"$ref": "b"}}},
    ],
    ids=lambda schema: str(schema)[:40],
)
def test_a_schema_that_makes_no_sense_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidSchema):
        Schema(schema)
