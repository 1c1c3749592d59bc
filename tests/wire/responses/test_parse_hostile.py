"""Any input to the Responses API becomes a request, or an InvalidRequest that locates the error."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.agent_request import Caller
from openai_compat.errors import InvalidRequest
from openai_compat.wire.json import MAX_TOOLS
from openai_compat.wire.responses.parse.request import (
    MAX_ITEMS,
    ParsedResponse,
    parse_compact,
    parse_input_tokens,
    parse_response,
    with_context,
)
from openai_compat.wire.responses.request_types import ResponseRequest
from tests.support import strategies
from tests.support.refusals import check_refusal, encoded, refusal

Item = dict[str, Any]
USER: Item = {"role": "user", "content": "hi"}
CALL: Item = {"type": "function_call", "call_id": "call_1", "name": "find", "arguments": "{}"}
RESULT: Item = {"type": "function_call_output", "call_id": "call_1", "output": "found"}
TOOL: Item = {"type": "function", "name": "find", "parameters": {"type": "object"}}
SPACE: Item = {"type": "namespace", "name": "n", "description": "d", "tools": [TOOL]}
ALLOWED: Item = {"type": "allowed_tools", "mode": "auto"}

BODIES: tuple[Item, ...] = (
    {
        "model": "agent",
        "instructions": "Be kind.",
        "input": [
            {"role": "developer", "content": "Be brief."},
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is it?"},
                    {"type": "input_image", "image_url": "https://a.example/b.png", "detail": "low"},
                    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                    {"type": "input_file", "file_id": "file-1", "filename": "a.pdf"},
                ],
            },
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "phase": "commentary",
                "content": [
                    {"type": "output_text", "text": "Let me see.", "annotations": []},
                    {"type": "refusal", "refusal": "No."},
                ],
            },
            CALL,
            {"type": "custom_tool_call", "call_id": "call_2", "name": "write_code", "input": "x"},
            RESULT,
            {"type": "custom_tool_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "ran"}]},
            {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True, "reason": "fine"},
            {"type": "compaction", "encrypted_content": "gAAAA"},
            {"type": "item_reference", "id": "msg_7"},
            {"type": "acme:telepathy", "thought": {"deep": [1]}},
        ],
        "tools": [
            TOOL,
            {"type": "custom", "name": "write_code", "format": {"type": "text"}},
            {"type": "namespace", "name": "files", "description": "d", "tools": [{**TOOL, "name": "list"}]},
            {"type": "mcp", "server_label": "agent"},
            {"type": "web_search", "search_context_size": "low"},
        ],
        "tool_choice": {"type": "function", "name": "find"},
    },
    {
        "model": "agent",
        "input": "hi",
        "conversation": {"id": "conv_1"},
        "tools": [TOOL],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "find"}]},
        "text": {
            "format": {"type": "json_schema", "name": "answer", "schema": {"type": "object"}, "strict": True},
            "verbosity": "low",
        },
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 3,
        "stream": True,
        "stream_options": {"include_obfuscation": False},
        "temperature": 0.5,
        "top_p": 1,
        "max_output_tokens": 100,
        "max_tool_calls": 3,
        "metadata": {"a": "b"},
        "store": True,
        "background": True,
        "truncation": "auto",
        "service_tier": "flex",
        "context_management": [{"type": "compaction", "compact_threshold": 1000}],
        "user": "me",
        "unknown_field": {"kept": [1]},
    },
)


def new_ids() -> Callable[[str], str]:
    numbers = itertools.count(1)
    return lambda prefix: f"{prefix}{next(numbers)}"


def parse(body: bytes) -> ParsedResponse:
    return parse_response(body, Caller(), new_ids())


def request_body(**fields: Any) -> Item:
    return {"model": "agent", "input": "hi", **fields}


def error_of(**fields: Any) -> tuple[str | None, str | None]:
    """Return the `param` and `code` of the error for a valid request with these extra fields."""
    error = refusal(parse, encoded(request_body(**fields)))
    assert error is not None
    check_refusal(error, request_body(**fields))
    return error.param, error.code


@given(strategies.mutated(BODIES))
def test_a_broken_request_is_refused_with_the_place_that_is_wrong(body: Item) -> None:
    for parser in (parse_response, parse_input_tokens, parse_compact):
        error = refusal(lambda data: parser(data, Caller(), new_ids()), encoded(body))  # noqa: B023  (called within the round)
        # JSON with a lone surrogate is not valid UTF-8, so it is rejected as a whole.
        if error is not None and "valid JSON" not in error.message:
            check_refusal(error, body)


@given(strategies.mutated(BODIES), st.booleans())
def test_what_is_taken_continues_a_conversation_or_is_refused_with_the_place(body: Item, known: bool) -> None:
    body = {**body, "conversation": "conv_1", "previous_response_id": None}
    try:
        parsed = parse(encoded(body))
    except InvalidRequest:
        return
    context = [{**USER, "id": "msg_0", "type": "message"}] if known else []
    found: Item = {"type": "message", "role": "assistant", "content": []}
    wanted = [item["id"] for item in parsed.input if item["type"] == "item_reference"]
    lookup = {identity: {**found, "id": identity} for identity in wanted}
    error = refusal(lambda _: with_context(parsed, context, lookup), b"")
    if error is not None:
        check_refusal(error, body)


@given(strategies.json_values)
def test_any_json_is_parsed_or_refused(value: Any) -> None:
    refusal(parse, encoded(value))


@given(st.dictionaries(st.sampled_from(sorted(ResponseRequest.model_fields)), strategies.json_values, max_size=4))
def test_any_value_of_any_parameter_is_taken_or_refused(value: Item) -> None:
    error = refusal(parse, encoded(request_body(**value)))
    if error is not None and "valid JSON" not in error.message:
        check_refusal(error, request_body(**value))


@given(
    st.sampled_from(BODIES), st.lists(st.tuples(st.integers(0, 3000), st.binary(max_size=3)), min_size=1, max_size=4)
)
def test_damaged_bytes_are_parsed_or_refused(body: Item, damage: list[tuple[int, bytes]]) -> None:
    data = encoded(body)
    for position, patch in damage:
        at = position % len(data)
        data = data[:at] + patch + data[at + len(patch) :]
    refusal(parse, data)


@pytest.mark.parametrize("body", BODIES)
def test_the_requests_that_are_broken_here_are_fine_by_themselves(body: Item) -> None:
    parse(encoded(body))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1e999", "1" * 5000])
@pytest.mark.parametrize("name", ["temperature", "max_output_tokens", "unknown"])
def test_numbers_that_are_none_or_too_large_are_refused(number: str, name: str) -> None:
    if number == "1" * 5000 and name == "unknown":  # integers are exact at any length, and are passed on
        return
    body = json.dumps(request_body())[:-1] + f', "{name}": {number}}}'
    assert refusal(parse, body.encode()) is not None


@pytest.mark.parametrize("where", ["input", "tools", "unknown", "metadata", "text"])
def test_json_a_hundred_thousand_levels_deep_is_refused(where: str) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    assert refusal(parse, f'{{"model": "agent", "{where}": {deep}}}'.encode()) is not None


@pytest.mark.parametrize(
    ("given", "param"),
    [
        (None, "input"),
        ([], "input"),
        (1, "input"),
        (USER, "input"),
        ([None], "input[0]"),
        (["hi"], "input[0]"),
        ([[]], "input[0]"),
        ([{}], "input[0].role"),
        ([{"content": "hi"}], "input[0].role"),
        ([{"role": "user"}], "input[0].content"),
        ([{"role": "root", "content": "hi"}], "input[0].role"),
        ([{"role": "tool", "content": "hi"}], "input[0].role"),
        ([{"role": "user", "content": 1}], "input[0].content"),
        ([{"role": "user", "content": None}], "input[0].content"),
        ([{"role": "user", "content": ["hi"]}], "input[0].content[0]"),
        ([{"role": "user", "content": [{"text": "hi"}]}], "input[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "hologram"}]}], "input[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "input_text"}]}], "input[0].content[0].text"),
        ([{"role": "user", "content": [{"type": "input_image"}]}], "input[0].content[0]"),
        ([{"role": "user", "content": [{"type": "input_image", "image_url": {}}]}], "input[0].content[0].image_url"),
        ([{"role": "user", "content": [{"type": "input_file", "filename": "a"}]}], "input[0].content[0]"),
        ([{"role": "user", "content": [{"type": "refusal", "refusal": "no"}]}], "input[0].content[0].type"),
        ([{"role": "assistant", "content": [{"type": "input_image", "image_url": "x"}]}], "input[0].content[0].type"),
        ([{"role": "system", "content": [{"type": "input_image", "image_url": "x"}]}], "input[0].content[0].type"),
        ([{**USER, "type": 5}], "input[0].type"),
        ([{**USER, "type": ""}], "input[0].type"),
        ([{**USER, "id": 5}], "input[0].id"),
        ([{**USER, "status": "asleep"}], "input[0].status"),
        ([{**USER, "phase": "moon"}], "input[0].phase"),
        ([{"type": "function_call", "name": "f", "arguments": "{}"}], "input[0].call_id"),
        ([{**CALL, "arguments": {}}], "input[0].arguments"),
        ([{**CALL, "call_id": ""}], "input[0].call_id"),
        ([{**RESULT, "output": None}], "input[0].output"),
        ([{**RESULT, "output": [{"type": "output_video"}]}], "input[0].output[0].type"),
        ([{"type": "item_reference"}], "input[0].id"),
        ([{"type": "mcp_approval_response", "approval_request_id": "a"}], "input[0].approve"),
        ([{"type": "mcp_approval_response", "approval_request_id": "a", "approve": "yes"}], "input[0].approve"),
        ([{"type": "reasoning", "summary": "hm"}], "input[0].summary"),
        ([{"type": "compaction"}], "input[0].encrypted_content"),
    ],
)
def test_wrong_input_is_refused_with_the_place(given: Any, param: str) -> None:
    assert error_of(input=given)[0] == param


OUT_OF_RANGE: dict[str, list[Any]] = {
    "background": ["yes", 1],
    "context_management": [[], {}, [{}], [{"type": "compaction", "compact_threshold": 0}]],
    "conversation": ["", 5, {}, {"id": ""}, {"id": 5}, "c" * 1000],
    "frequency_penalty": [-2.1, 2.1, "0"],
    "generate": ["no", 0],
    "include": ["message.output_text.logprobs", ["everything"], [1]],
    "instructions": [5, [], {}],
    "max_output_tokens": [0, -2, 1.5, "10", True],
    "max_tool_calls": [0, -1, 1.5, "3"],
    "metadata": [[], {"a": 1}, {"a" * 65: "x"}, {"a": "x" * 513}, {str(i): "x" for i in range(17)}],
    "model": [None, 1, "", [], {}],
    "parallel_tool_calls": ["no", 0],
    "presence_penalty": [-2.1, 2.1, {}],
    "previous_response_id": ["", 5, "r" * 1000],
    "prompt": [{"id": "pmpt_1"}, "pmpt_1"],
    "prompt_cache_key": [5],
    "prompt_cache_options": [[], "x"],
    "reasoning": ["hard", {"effort": "huge"}, {"effort": 1}, {"summary": "long"}],
    "safety_identifier": ["x" * 65, 5],
    "service_tier": ["gold", 1],
    "store": ["yes", 0],
    "stream": ["true", 1],
    "stream_options": [True, [], {"include_obfuscation": "yes"}],
    "temperature": [-0.1, 2.1, "1", True, [1]],
    "text": ["text", {"format": "json"}, {"format": {}}, {"format": {"type": "xml"}}, {"verbosity": "loud"}],
    "tool_choice": [
        "maybe",
        "required",
        1,
        {},
        {"type": "function"},
        {"type": "function", "name": "f"},
        {"type": "mcp"},
    ],
    "tools": [{}, "x", [1], [{}], [{"type": "function"}], [{**TOOL, "name": "a b"}], [TOOL, TOOL], [{"type": "mcp"}]],
    "top_logprobs": [-1, 21, 1.5],
    "top_p": [-0.1, 1.1, "0.5"],
    "truncation": ["some", 1],
    "user": [1, [], True],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in OUT_OF_RANGE for value in OUT_OF_RANGE[name]])
def test_a_value_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    param, code = error_of(**{name: value})
    assert code is not None
    assert (param or "").replace("[", ".").split(".")[0] == name


def test_null_means_not_there() -> None:
    optional = set(ResponseRequest.model_fields) - {"model", "input"}
    nulled = parse(encoded(request_body(**dict.fromkeys(optional))))
    plain = parse(encoded(request_body()))
    assert (nulled.wire, nulled.request, nulled.input, nulled.echo) == (
        plain.wire,
        plain.request,
        plain.input,
        plain.echo,
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"conversation": "conv_1", "previous_response_id": "resp_1"}, "conversation"),
        ({"background": True, "store": False}, "background"),
        ({"tools": [{**TOOL, "name": "x" * 129}]}, "tools[0].name"),
        ({"tools": [{"type": "namespace", "name": "n", "tools": [{**TOOL, "name": ""}]}]}, "tools[0].tools[0].name"),
        ({"tools": [{"type": "namespace", "name": "n", "tools": [TOOL, TOOL]}]}, "tools[0].tools[1].name"),
        ({"tools": [{**TOOL, "parameters": []}]}, "tools[0].parameters"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "other"}}, "tool_choice.name"),
        ({"tools": [SPACE], "tool_choice": {"type": "function", "name": "find", "namespace": "m"}}, "tool_choice.name"),
        (
            {"tools": [SPACE], "tool_choice": {**ALLOWED, "tools": [{"type": "namespace", "name": "m"}]}},
            "tool_choice.tools",
        ),
        (
            {"tools": [SPACE], "tool_choice": {**ALLOWED, "tools": [{"type": "function", "name": {}}]}},
            "tool_choice.tools",
        ),
        ({"tools": [SPACE, {**TOOL, "name": "n__find"}]}, "tools[1].name"),
        ({"tools": [TOOL], "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "mcp", "server_label": "x"}}, "tool_choice"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}},
            "tool_choice.tools",
        ),
        (
            {
                "tools": [TOOL],
                "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function"}]},
            },
            "tool_choice.tools",
        ),
        (
            {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{}]}},
            "tool_choice.tools[0]",
        ),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "tools": [TOOL]}}, "tool_choice.mode"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
        ({"input": [USER] * (MAX_ITEMS + 1)}, "input"),
        ({"tools": [{**TOOL, "name": f"f{number}"} for number in range(MAX_TOOLS + 1)]}, "tools"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_place(fields: Item, param: str) -> None:
    assert error_of(**fields)[0] == param


def test_without_a_model_there_is_nobody_to_ask() -> None:
    error = refusal(parse, encoded({"input": "hi"}))
    assert error is not None
    assert (error.param, error.code) == ("model", "missing_required_parameter")


@pytest.mark.parametrize(
    "text", [text for text in strategies.HOSTILE if text.encode("utf-8", "ignore").decode() == text]
)
def test_odd_text_is_carried_unchanged(text: str) -> None:
    parsed = parse(encoded(request_body(input=[{"role": "user", "content": text}, {**USER, "content": text}])))
    assert parsed.input[0]["content"][0]["text"] == text
    assert parsed.request.prompt == text


@pytest.mark.parametrize("identity", ["", " ", "a b", "é", "x" * 129, "\x00", "msg\n1"])
def test_an_id_that_would_hurt_is_replaced(identity: str) -> None:
    parsed = parse(encoded(request_body(input=[{**USER, "id": identity}])))
    assert parsed.input[0]["id"] == "msg_1"


def test_half_a_surrogate_pair_is_refused() -> None:
    for place in ('{"role": "user", "content": "\\ud800"}', '{"type": "x", "id": "\\udfff"}'):
        assert refusal(parse, f'{{"model": "agent", "input": [{place}]}}'.encode()) is not None


def test_as_many_items_as_are_allowed_are_quickly_read() -> None:
    body = encoded(request_body(input=[USER, {**USER, "role": "assistant"}] * (MAX_ITEMS // 2 - 1) + [USER]))
    begin = time.process_time()
    parsed = parse(body)
    assert len(with_context(parsed, []).request.messages) == MAX_ITEMS - 1
    assert time.process_time() - begin < 3


def test_tools_made_to_hurt_are_refused_or_handed_over_unread() -> None:
    tools = [{"type": "x" * 200, "pattern": "^(a+)+$"}]
    assert parse(encoded(request_body(tools=tools))).request.extra["hosted_tools"] == tools
    away: Item = {"properties": {"a": {"$ref": "https://example.com/a.json"}}}
    with pytest.raises(InvalidRequest) as refused:
        parse(encoded(request_body(tools=[{**TOOL, "parameters": away}])))
    assert (refused.value.code, refused.value.param) == ("invalid_json_schema", "tools[0].parameters")
