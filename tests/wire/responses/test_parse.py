"""A Responses request reaches the agent complete, and is listed and echoed as at OpenAI."""

from __future__ import annotations

import functools
import itertools
import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import (
    Response,
    ResponseIncludable,
    ResponseItem,
    input_token_count_params,
    response_compact_params,
    response_create_params,
)
from pydantic import TypeAdapter

from openai_compat.agent_request import (
    AgentRequest,
    Caller,
    CustomTool,
    Decision,
    FunctionTool,
    Principal,
    Resume,
    Sampling,
    ToolChoice,
)
from openai_compat.backend import Capabilities
from openai_compat.errors import InvalidRequest, NotFound
from openai_compat.messages import (
    AssistantMessage,
    FilePart,
    ImagePart,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from openai_compat.wire.responses.parse.parameters import PARAMETERS
from openai_compat.wire.responses.parse.request import (
    COMPACT_FIELDS,
    TOKEN_FIELDS,
    ParsedResponse,
    check_response_capabilities,
    parse_compact,
    parse_input_tokens,
    parse_response,
    with_context,
)
from openai_compat.wire.responses.request_types import Includable, ResponseRequest
from tests.support.strategies import texts

Item = dict[str, Any]
FIND: Item = {"type": "function", "name": "find", "description": "d", "parameters": {"type": "object"}, "strict": True}
WRITE: Item = {"type": "custom", "name": "write", "format": {"type": "text"}}
USER: Item = {"id": "msg_u", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
SAID: Item = {"id": "msg_a", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ho"}]}
CALL: Item = {"id": "fc_c", "type": "function_call", "call_id": "call_1", "name": "find", "arguments": "{}"}
RESULT: Item = {"type": "function_call_output", "call_id": "call_1", "output": "found"}


def parse_fields(**fields: Any) -> ParsedResponse:
    numbers = itertools.count(1)
    body = json.dumps({"model": "agent", "input": "hi", **fields}).encode()
    return parse_response(body, Caller(), lambda prefix: f"{prefix}{next(numbers)}")


def parse_continued(
    context: list[Item], *items: Item, lookup: dict[str, Item] | None = None, **fields: Any
) -> AgentRequest:
    return with_context(parse_fields(input=[*items], previous_response_id="resp_1", **fields), context, lookup).request


def error_param(context: list[Item], *items: Item) -> str | None:
    """Return the `param` of the error for these items after `context`."""
    with pytest.raises(InvalidRequest) as error:
        parse_continued(context, *items)
    assert error.value.status == 400
    return error.value.param


def test_every_documented_parameter_is_accounted_for() -> None:
    documented = set(response_create_params.ResponseCreateParamsBase.__annotations__) | {"stream", "generate"}
    assert documented - set(PARAMETERS) == set()
    assert set(ResponseRequest.model_fields) == set(PARAMETERS)
    assert set(get_args(Includable)) == set(get_args(ResponseIncludable))
    assert set(response_compact_params.ResponseCompactParams.__annotations__) == COMPACT_FIELDS
    assert set(input_token_count_params.InputTokenCountParams.__annotations__) == TOKEN_FIELDS


def test_what_is_called_accepted_reaches_the_agent_and_what_is_called_refused_is_refused() -> None:
    values: Item = {"service_tier": "flex", "prompt_cache_options": {}, "background_options": {}}
    values["context_management"] = [{"type": "compaction"}]
    for name, parameter in PARAMETERS.items():
        value = values.get(name, "x")
        if parameter.what == "accepted":
            assert parse_fields(**{name: value}).request.extra == {name: value}
        elif parameter.what == "refused":
            with pytest.raises(InvalidRequest) as error:
                parse_fields(**{name: value})
            assert (error.value.param, error.value.code) == (name, "unsupported_parameter")


def test_parameters_reach_the_agent_where_chat_has_them() -> None:
    caller = Caller(Principal("me"), {"x-app": "a"})
    body: Item = {
        "model": "agent",
        "instructions": "Be kind.",
        "input": "hi",
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 100,
        "frequency_penalty": 1,
        "presence_penalty": -1,
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 3,
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"verbosity": "high"},
        "parallel_tool_calls": False,
        "stream": True,
        "metadata": {"a": "b"},
        "user": "bob",
        "conversation": "conv_1",
        "top_k": 5,
    }
    request = parse_response(json.dumps(body).encode(), caller, lambda prefix: prefix + "1").request
    assert request == AgentRequest(
        model="agent",
        messages=(SystemMessage("Be kind."), UserMessage((TextPart("hi"),))),
        raw_messages=[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}],
        raw_items=[
            {"type": "message", "role": "system", "content": "Be kind."},
            {
                "id": "msg_1",
                "type": "message",
                "status": "completed",
                "role": "user",
                "content": [{"type": "input_text", "text": "hi"}],
            },
        ],
        parallel_tool_calls=False,
        sampling=Sampling(0.5, 0.9, 100, (), None, 1, -1, None, 3, "low", "high"),
        logprobs=True,
        stream=True,
        principal=Principal("me"),
        headers={"x-app": "a"},
        metadata={"a": "b"},
        user="bob",
        conversation_id="conv_1",
        is_kept=True,
        extra={
            "top_k": 5,
            "include": ["message.output_text.logprobs"],
            "reasoning": {"effort": "low", "summary": "auto"},
        },
    )


def test_alternatives_to_tokens_are_wanted_only_where_probabilities_are() -> None:
    assert parse_fields(top_logprobs=3).request.sampling.top_logprobs is None
    assert parse_fields(include=["message.output_text.logprobs"]).request.sampling.top_logprobs == 0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ({}, None),
        ({"format": {"type": "text"}}, None),
        ({"format": {"type": "json_object"}}, {"type": "json_object"}),
        (
            {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": True}},
            {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": True}},
        ),
    ],
)
def test_the_format_of_the_answer_has_the_shape_that_chat_gives_it(given: Any, expected: Any) -> None:
    assert parse_fields(text=given).request.response_format == expected


@pytest.mark.parametrize(
    ("fields", "store", "background", "stream", "generate"),
    [
        ({}, True, False, False, True),
        ({"store": False, "stream": True}, False, False, True, True),
        ({"background": True, "generate": None}, True, True, False, True),
        ({"generate": False}, True, False, False, False),
        ({"prompt_cache_options": {"prewarm": True}}, True, False, False, False),
    ],
)
def test_how_to_answer_is_told_apart(fields: Item, store: bool, background: bool, stream: bool, generate: bool) -> None:
    request = parse_fields(**fields)
    assert (request.store, request.background, request.stream) == (store, background, stream)
    assert request.generate == generate


def test_a_conversation_is_named_by_an_id_or_an_object() -> None:
    assert parse_fields(conversation="conv_1").conversation == "conv_1"
    assert parse_fields(conversation={"id": "conv_1"}).conversation == "conv_1"
    assert parse_fields(previous_response_id="resp_1").previous == "resp_1"
    assert (parse_fields().conversation, parse_fields().previous) == (None, None)


def test_a_frame_of_a_socket_is_parsed_like_a_body() -> None:
    frame = {"type": "response.create", "stream_id": "s", "event_id": "e", "model": "agent", "input": "hi", "x": 1}
    request = parse_response(frame, Caller(), lambda prefix: prefix + "1")
    assert request.request.extra == {"x": 1}
    assert request.request.prompt == "hi"


# Fields that the Response object echoes

REPEATED = """model previous_response_id instructions tools tool_choice truncation parallel_tool_calls text top_p
presence_penalty frequency_penalty top_logprobs temperature reasoning max_output_tokens max_tool_calls store background
service_tier metadata safety_identifier prompt_cache_key"""
MADE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1.0,
    "completed_at": None,
    "status": "queued",
    "incomplete_details": None,
    "output": [],
    "error": None,
    "usage": None,
}


@functools.cache
def sdk_type(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {
            "tools": [FIND, WRITE, {"type": "function", "name": "bare"}],
            "tool_choice": {"type": "custom", "name": "write"},
        },
        {"text": {"format": {"type": "json_schema", "name": "a", "schema": {}}}, "reasoning": {"effort": "high"}},
        {"conversation": "conv_1", "user": "bob", "metadata": {"a": "b"}, "truncation": "auto"},
        {"background": True, "max_output_tokens": 5, "max_tool_calls": 2, "service_tier": "priority"},
        {"previous_response_id": "resp_0", "instructions": "Be kind.", "store": True, "prompt_cache_retention": "24h"},
        {
            "tools": [{"type": "mcp", "server_label": "a"}, {"type": "web_search"}],
            "tool_choice": {"type": "web_search"},
        },
    ],
)
def test_a_response_repeats_its_request_as_strict_clients_want_it(fields: Item) -> None:
    echo = parse_fields(**fields).echo
    assert set(REPEATED.split()) <= echo.keys()
    assert len(set(REPEATED.split()) | MADE.keys()) == 31
    if fields.get("tool_choice") != {"type": "web_search"}:  # the SDK's own types lack this choice
        sdk_type(Response).validate_python({**echo, **MADE}, strict=True)
    assert {name: echo[name] for name in fields if name in ("metadata", "max_tool_calls", "instructions")} == {
        name: fields[name] for name in fields if name in ("metadata", "max_tool_calls", "instructions")
    }


def test_what_was_not_sent_has_openais_defaults() -> None:
    assert parse_fields().echo == {
        "background": False,
        "frequency_penalty": 0.0,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {},
        "model": "agent",
        "parallel_tool_calls": True,
        "presence_penalty": 0.0,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
    }


def test_secrets_of_servers_are_not_repeated_but_reach_the_agent() -> None:
    tool = {"type": "mcp", "server_label": "a", "authorization": "s3cr3t", "headers": {"x-key": "s3cr3t"}}
    request = parse_fields(tools=[tool])
    assert request.echo["tools"] == [{"type": "mcp", "server_label": "a"}]
    assert request.request.extra["hosted_tools"] == [tool]


# Tools


def test_the_clients_tools_are_offered_and_all_others_shown() -> None:
    hosted = [{"type": "mcp", "server_label": "agent"}, {"type": "web_search"}, {"type": "acme:telepathy", "deep": [1]}]
    request = parse_fields(tools=[FIND, hosted[0], WRITE, *hosted[1:]])
    assert request.request.tools == (
        FunctionTool("find", "d", {"type": "object"}, strict=True),
        CustomTool("write", None, {"type": "text"}),
    )
    assert request.request.tool_choice == ToolChoice(frozenset({"find", "write"}))
    assert request.request.extra == {"hosted_tools": hosted}
    assert request.tools.labels == {"agent"}
    assert request.tools.custom == {"write"}
    assert request.echo["tools"] == [FIND, hosted[0], WRITE, *hosted[1:]]


def test_tools_of_a_namespace_are_offered_by_a_name_of_their_own() -> None:
    space: Item = {"type": "namespace", "name": "files", "description": "d", "tools": [FIND, {**FIND, "name": "list"}]}
    request = parse_fields(tools=[FIND, space])
    assert [tool.name for tool in request.request.tools] == ["find", "files__find", "files__list"]
    assert request.tools.namespaces == {"files__find": ("files", "find"), "files__list": ("files", "list")}


def test_the_agent_finds_calls_of_such_tools_in_the_conversation_by_that_name() -> None:
    request = parse_continued([USER, {**CALL, "namespace": "files"}], {**RESULT, "name": "find", "namespace": "files"})
    assert request.messages[-2:] == (
        AssistantMessage((), (ToolCall("call_1", "files__find", "{}"),)),
        ToolMessage("call_1", "found", "files__find"),
    )
    assert parse_continued([USER, {**CALL, "namespace": "files"}], RESULT).messages[-1] == request.messages[-1]


def test_tools_whose_results_may_come_later_are_known() -> None:
    assert parse_fields(tools=[{**FIND, "async": True}, WRITE]).tools.deferred == {"find"}


@pytest.mark.parametrize(
    ("choice", "names", "required"),
    [
        (None, {"find", "write", "files__list"}, False),
        ("auto", {"find", "write", "files__list"}, False),
        ("none", set(), False),
        ("required", {"find", "write", "files__list"}, True),
        ({"type": "function", "name": "find"}, {"find"}, True),
        ({"type": "custom", "name": "write"}, {"write"}, True),
        ({"type": "mcp", "server_label": "agent", "name": "x"}, {"find", "write", "files__list"}, False),
        ({"type": "web_search"}, {"find", "write", "files__list"}, False),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "find"}]},
            {"find"},
            False,
        ),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [WRITE, {"type": "mcp", "server_label": "agent"}]},
            {"write"},
            True,
        ),
        ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "web_search"}]}, set(), False),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "namespace", "name": "files"}]},
            {"files__list"},
            False,
        ),
        ({"type": "function", "name": "list"}, {"files__list"}, True),
        ({"type": "function", "name": "list", "namespace": "files"}, {"files__list"}, True),
        ({"type": "function", "name": "files__list"}, {"files__list"}, True),
    ],
)
def test_which_tools_may_be_called_is_what_the_choice_says(choice: Any, names: set[str], required: bool) -> None:
    space = {"type": "namespace", "name": "files", "description": "d", "tools": [{**FIND, "name": "list"}]}
    tools = [FIND, WRITE, space, {"type": "mcp", "server_label": "agent"}, {"type": "web_search"}]
    request = parse_fields(tools=tools, tool_choice=choice).request
    assert request.tool_choice == ToolChoice(
        frozenset(names), required, frozenset({"find", "write", "files__list"} - names)
    )
    assert {tool.name for tool in request.tools} == names
    assert request.extra.get("tool_choice") == (choice if isinstance(choice, dict) else None)


def test_only_hosted_tools_can_be_required_too() -> None:
    assert parse_fields(tools=[{"type": "web_search"}], tool_choice="required").request.tool_choice == ToolChoice(
        frozenset()
    )


@pytest.mark.parametrize(
    ("fields", "without", "param"),
    [
        ({"include": ["message.output_text.logprobs"]}, Capabilities(), "include"),
        ({"text": {"format": {"type": "json_object"}}}, Capabilities(structured_output=False), "text.format"),
        ({"tools": [FIND], "tool_choice": "required"}, Capabilities(client_tools=False), "tool_choice"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]},
            Capabilities(vision=False),
            "input[0].content[0]",
        ),
        (
            {"input": [{**CALL}, {**RESULT, "output": [{"type": "input_file", "file_id": "file-1"}]}]},
            Capabilities(files=False),
            "input[1].output[0]",
        ),
        (
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "mp3"}}]}
                ]
            },
            Capabilities(audio_input=False),
            "input[0].content[0]",
        ),
    ],
)
def test_what_the_agent_has_not_declared_is_refused_by_name(fields: Item, without: Capabilities, param: str) -> None:
    everything = Capabilities(logprobs=True)
    check_response_capabilities(parse_fields(**fields), everything)
    with pytest.raises(InvalidRequest) as error:
        check_response_capabilities(parse_fields(**fields), without)
    assert (error.value.param, error.value.code) == (param, "unsupported_parameter")


# Items in the API's listings


def test_items_get_ids_states_and_lists_of_parts() -> None:
    image = {"type": "input_image", "image_url": "data:,"}
    request = parse_fields(
        input=[
            {"role": "user", "content": "hi"},
            {"type": "message", "role": "user", "content": [image, {"type": "text", "text": "?"}]},
            {"role": "assistant", "content": "ho", "phase": "commentary", "id": None},
            {**CALL, "id": "", "status": None, "namespace": "n"},
            RESULT,
            {"type": "custom_tool_call", "call_id": "call_2", "name": "write", "input": "x"},
            {"type": "custom_tool_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "ran"}]},
            {"type": "reasoning", "encrypted_content": None, "summary": []},
            {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True, "reason": None},
            {"type": "compaction", "encrypted_content": "x"},
            {"id": "msg_9"},
            {"type": "acme:x", "content": None, "deep": {"id": 1}},
        ]
    )
    text = {"type": "input_text", "text": "hi"}
    said = {"annotations": [], "logprobs": [], "type": "output_text", "text": "ho"}
    done = {"status": "completed"}
    assert request.input == (
        {"id": "msg_1", "type": "message", **done, "role": "user", "content": [text]},
        {
            "id": "msg_2",
            "type": "message",
            **done,
            "role": "user",
            "content": [{**image, "detail": "auto"}, {"type": "input_text", "text": "?"}],
        },
        {"id": "msg_3", "type": "message", **done, "role": "assistant", "phase": "commentary", "content": [said]},
        {**CALL, "id": "fc_4", **done, "namespace": "n"},
        {**RESULT, "id": "fco_5", **done},
        {"id": "ctc_6", "type": "custom_tool_call", **done, "call_id": "call_2", "name": "write", "input": "x"},
        {
            "id": "ctco_7",
            "type": "custom_tool_call_output",
            **done,
            "call_id": "call_2",
            "output": [{"type": "input_text", "text": "ran"}],
        },
        {"id": "rs_8", "type": "reasoning", **done, "summary": []},
        {"id": "mcpa_9", "type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
        {"id": "cmp_10", "type": "compaction", "encrypted_content": "x"},
        {"type": "item_reference", "id": "msg_9"},
        {"type": "acme:x", "content": None, "deep": {"id": 1}, "id": "item_11"},
    )
    for item in request.input[:-2]:
        sdk_type(ResponseItem).validate_python(item, strict=True)


def test_an_items_own_id_is_kept_and_a_repeated_one_replaced() -> None:
    request = parse_fields(input=[{**USER, "id": "mine"}, {**USER, "id": "mine"}])
    assert [item["id"] for item in request.input] == ["mine", "msg_1"]


def test_decisions_are_found_by_the_id_of_what_was_asked() -> None:
    asked: Item = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
    denied: Item = {**asked, "approval_request_id": "mcpr_2", "approve": False, "reason": "too dear"}
    request = parse_fields(input=[asked, denied])
    assert request.decisions == {"mcpr_1": Decision(approved=True), "mcpr_2": Decision(False, "too dear")}
    with_context(request, [])


easy = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system", "developer"]), "content": texts})


@given(st.lists(easy, min_size=1, max_size=4))
def test_short_messages_are_listed_as_the_sdk_expects_and_read_back_the_same(items: list[Item]) -> None:
    asked = {"model": "agent", "input": items}
    request = parse_response(asked, Caller(), lambda prefix: prefix + "1")
    for item in request.input:
        sdk_type(ResponseItem).validate_python(item, strict=True)
    listed = parse_response({**asked, "input": [*request.input]}, Caller(), lambda prefix: prefix + "1")
    assert [*map(role_and_content, listed.input)] == [*map(role_and_content, request.input)]
    assert listed.request.raw_messages == request.request.raw_messages


def role_and_content(item: Item) -> tuple[str, list[Item]]:
    return item["role"], item["content"]


# Conversation history


def test_the_conversation_goes_before_and_instructions_before_that() -> None:
    request = parse_continued([USER, SAID], {"role": "user", "content": "and?"}, instructions="Be brief.")
    assert request.messages == (
        SystemMessage("Be brief."),
        UserMessage((TextPart("hi"),)),
        AssistantMessage((TextPart("ho"),)),
        UserMessage((TextPart("and?"),)),
    )
    assert request.raw_messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho"},
        {"role": "user", "content": "and?"},
    ]
    assert [item.get("id") for item in request.raw_items or ()] == [None, "msg_u", "msg_a", "msg_1"]
    assert request.new_messages == request.messages[-1:]
    assert request.resume is None


def test_a_result_resumes_the_turn_that_called() -> None:
    request = parse_continued([USER, CALL], RESULT)
    found = ToolMessage("call_1", "found", "find")
    assert request.messages[-2:] == (AssistantMessage((), (ToolCall("call_1", "find", "{}"),)), found)
    assert request.resume == Resume({"call_1": found})


def test_unknown_items_reach_the_agent_as_they_are() -> None:
    telepathy = {"id": "item_x", "type": "acme:telepathy", "thought": {"deep": [1]}}
    request = parse_continued([USER, telepathy], {"role": "user", "content": "and?"})
    assert request.raw_items is not None
    assert telepathy in request.raw_items
    assert len(request.messages) == 2


def test_a_reference_is_replaced_by_what_it_refers_to() -> None:
    stored = {**SAID, "id": "msg_9"}
    request = parse_continued(
        [USER], {"type": "item_reference", "id": "msg_9"}, {**USER, "id": None}, lookup={"msg_9": stored}
    )
    assert request.raw_items is not None
    assert request.raw_items[1] == stored
    assert [type(message) for message in request.messages] == [UserMessage, AssistantMessage, UserMessage]


def test_a_reference_to_what_was_said_anyway_adds_nothing() -> None:
    request = parse_continued([USER, SAID], {"type": "item_reference", "id": "msg_a"}, {**USER, "id": None})
    assert len(request.messages) == 3


def test_a_reference_to_nothing_is_not_found() -> None:
    with pytest.raises(NotFound) as error:
        parse_continued([USER], {"type": "item_reference", "id": "msg_9"})
    assert (error.value.status, error.value.param) == (404, "input[0].id")


@pytest.mark.parametrize(
    ("context", "items", "param"),
    [
        ([USER], [RESULT], "input[0].call_id"),
        ([USER, CALL], [{**USER, "id": None}, {**RESULT, "call_id": "call_2"}], "input[1].call_id"),
        ([USER, CALL], [RESULT, RESULT], "input[1].call_id"),
        ([USER, CALL, {**RESULT, "id": "fco_c"}], [RESULT], "input[0].call_id"),
        ([USER, CALL], [{**USER, "id": None}], "input"),
        ([USER], [{**CALL, "id": None}], "input"),
        ([USER, CALL], [{**CALL, "id": None}, RESULT], "input[0].call_id"),
        ([USER, {**CALL, "status": "incomplete"}], [RESULT], "input[0].call_id"),
        ([USER, SAID], [SAID], "input[0].id"),
    ],
)
def test_what_does_not_continue_the_conversation_is_refused(context: list[Item], items: list[Item], param: str) -> None:
    assert error_param(context, *items) == param


def test_the_call_without_a_result_is_named_but_not_at_length() -> None:
    with pytest.raises(InvalidRequest, match="No tool output found for function call call_1\\."):
        parse_continued([USER, CALL], {**USER, "id": None})
    with pytest.raises(InvalidRequest, match="No tool output found for function call\\."):
        parse_continued([USER, {**CALL, "call_id": "c" * 1000}], {**USER, "id": None})


@pytest.mark.parametrize(
    ("context", "items"),
    [
        ([USER, {**CALL, "async": True}], [{**USER, "id": None}]),
        ([USER, {**CALL, "async": True}, SAID], [RESULT]),
        ([USER, {**CALL, "status": "incomplete"}], [{**USER, "id": None}]),
        ([USER, CALL], [RESULT, {**USER, "id": None}]),
        ([USER, CALL], [{**USER, "id": None}, RESULT]),
        ([], [{**CALL, "id": None}, RESULT]),
        ([USER, SAID], [{"type": "compaction_trigger"}]),
        ([], [{"type": "computer_call_output", "call_id": "x", "output": {}}]),
        ([USER], []),
    ],
)
def test_what_continues_the_conversation_is_taken(context: list[Item], items: list[Item]) -> None:
    parse_continued(context, *items)


def test_a_response_that_only_remembers_need_not_ask_anything() -> None:
    request = parse_continued([], {"role": "developer", "content": "Be kind."}, generate=False)
    assert request.messages == (SystemMessage("Be kind.", "developer"),)


def test_pictures_and_files_become_typed() -> None:
    parts = [
        {"type": "input_image", "image_url": "data:,", "detail": None},
        {"type": "input_file", "file_id": "file-1"},
    ]
    request = parse_fields(input=[{"role": "user", "content": parts}]).request
    assert request.messages == (UserMessage((ImagePart("data:,"), FilePart(file_id="file-1"))),)


# Token counts and compaction


def test_tokens_are_counted_for_the_request_as_it_would_be_answered() -> None:
    body = {
        "model": "agent",
        "input": "hi",
        "instructions": "Be kind.",
        "tools": [FIND],
        "stream": True,
        "store": False,
    }
    request = parse_input_tokens(json.dumps(body).encode(), Caller(), lambda prefix: prefix + "1")
    assert len(request.request.messages) == 2
    assert [tool.name for tool in request.request.tools] == ["find"]
    assert not request.stream


def test_a_compaction_takes_a_conversation_and_nothing_else() -> None:
    body = {"model": "agent", "previous_response_id": "resp_1", "instructions": "Be kind.", "background": True}
    request = parse_compact(json.dumps(body).encode(), Caller(), lambda prefix: prefix + "1")
    assert (request.previous, request.background) == ("resp_1", False)
    assert with_context(request, [USER, SAID]).request.messages[0] == SystemMessage("Be kind.")
    with pytest.raises(InvalidRequest) as error:
        parse_compact(b'{"model": "agent"}', Caller(), lambda prefix: prefix + "1")
    assert error.value.param == "input"
