"""Any input becomes a request, or an InvalidRequest that locates the error without quoting the input."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.wire.chat.legacy_parse import parse_completion
from openai_compat.wire.chat.parse import parse_chat
from openai_compat.wire.chat.request_types import ChatCompletionRequest
from openai_compat.wire.json import parse_object, validate
from tests.support import strategies
from tests.support.exchanges import ask
from tests.support.refusals import check_refusal, encoded, refusal


@given(strategies.mutated(strategies.CHAT_BODIES))
def test_a_broken_chat_request_is_refused_with_the_place_that_is_wrong(body: dict[str, Any]) -> None:
    error = refusal(parse_chat, encoded(body))
    # JSON with a lone surrogate is not valid UTF-8, so it is rejected as a whole.
    if error is not None and "valid JSON" not in error.message:
        check_refusal(error, body)


@given(strategies.mutated(strategies.COMPLETION_BODIES))
def test_a_broken_completion_request_is_refused_with_the_place_that_is_wrong(body: dict[str, Any]) -> None:
    error = refusal(parse_completion, encoded(body))
    if error is not None and "valid JSON" not in error.message:
        check_refusal(error, body)


@given(strategies.json_values)
def test_any_json_is_parsed_or_refused(value: Any) -> None:
    for parse in (parse_chat, parse_completion):
        refusal(parse, encoded(value))


@given(st.dictionaries(strategies.keys, strategies.json_values, max_size=5))
def test_any_object_is_parsed_or_refused(value: dict[str, Any]) -> None:
    for parse in (parse_chat, parse_completion):
        error = refusal(parse, encoded(ask(**value)))
        if error is not None and "valid JSON" not in error.message:
            check_refusal(error, ask(**value))


@given(
    st.sampled_from(strategies.CHAT_BODIES),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=3)), max_size=4),
)
def test_damaged_bytes_are_parsed_or_refused(body: dict[str, Any], damage: list[tuple[int, bytes]]) -> None:
    data = encoded(body)
    for position, patch in damage:
        at = position % len(data)
        data = data[:at] + patch + data[at + len(patch) :]
    refusal(parse_chat, data)


@given(st.binary(max_size=40))
def test_any_bytes_are_an_object_or_refused(data: bytes) -> None:
    refusal(parse_object, data)


@pytest.mark.parametrize("body", [*strategies.CHAT_BODIES])
def test_the_requests_that_are_broken_here_are_fine_by_themselves(body: dict[str, Any]) -> None:
    parse_chat(encoded(body))


@pytest.mark.parametrize(
    "number",
    ["NaN", "Infinity", "-Infinity", "1e999", "-1E+0999", "1" * 400 + ".0", "1" + "0" * 400 + "e0", "1" * 5000],
)
@pytest.mark.parametrize("place", ['"temperature": %s', '"unknown": [%s]', '"n": %s', '"max_tokens": %s', '"seed": %s'])
def test_numbers_that_are_none_or_too_large_are_refused(number: str, place: str) -> None:
    body = json.dumps(ask())[:-1] + ", " + place % number + "}"
    if number == "1" * 5000 and "unknown" in place:  # integers are exact at any length, and are passed on
        return
    assert refusal(parse_chat, body.encode()) is not None


@pytest.mark.parametrize("deep", ["[" * 100_000, '{"a":' * 100_000, '{"messages":' + "[" * 900 + "]" * 900 + "}"])
def test_deep_nesting_is_refused(deep: str) -> None:
    assert refusal(parse_chat, deep.encode()) is not None


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": None}, "model", "invalid_type"),
        ({"messages": []}, "messages", "invalid_request"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role", "missing_required_parameter"),
        ({"messages": [{"role": "boss", "content": "hi"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
            "missing_required_parameter",
        ),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name", "missing_required_parameter"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "invalid_value"),
        ({"temperature": "warm"}, "temperature", "invalid_type"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"n": 1.5}, "n", "invalid_type"),
        ({"stop": ["a", 5]}, "stop[1]", "invalid_type"),
        ({"stop": ["a"] * 5}, "stop", "invalid_value"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content", "invalid_value"),
        ({"metadata": {"a": 5}}, "metadata.a", "invalid_type"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1", "invalid_value"),
        ({"tool_choice": "sometimes"}, "tool_choice", "invalid_value"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function", "missing_required_parameter"),
        ({"response_format": {"type": "yaml"}}, "response_format.type", "invalid_value"),
        ({"stream": "yes"}, "stream", "invalid_type"),
    ],
)
def test_the_param_is_the_place_and_the_code_the_kind_of_fault(fields: dict[str, Any], param: str, code: str) -> None:
    error = refusal(parse_chat, encoded({**ask(), **fields}))
    assert error is not None
    assert (error.param, error.code) == (param, code)


def test_a_long_key_is_quoted_at_its_beginning_only() -> None:
    key = strategies.SECRET * 1000
    error = refusal(parse_chat, encoded(ask(metadata={"a" * 200 + key: "x"})))
    assert error is not None
    assert strategies.SECRET not in error.message
    assert len(error.param or "") < 200


def test_null_means_not_there() -> None:
    optional = set(ChatCompletionRequest.model_fields) - {"model", "messages"}
    nulled = validate(ChatCompletionRequest, ask(**dict.fromkeys(optional)))
    assert nulled == validate(ChatCompletionRequest, ask())


def test_unknown_fields_are_kept() -> None:
    assert parse_chat(encoded(ask(top_k=5, user="me"))).request.extra == {"top_k": 5}
