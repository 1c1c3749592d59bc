"""Plain conversations skip per-message validation, with the same outcome."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat import AgentRequest
from openai_compat.errors import InvalidRequest
from openai_compat.wire.chat.parse import parse_chat
from openai_compat.wire.chat.request_types import ChatCompletionRequest
from openai_compat.wire.conversation_rules import check_conversation, parse_messages
from openai_compat.wire.json import validate
from tests.support.strategies import json_values

Json = dict[str, Any]

words = st.text(st.characters(codec="utf-8"), max_size=8)
texts = st.builds(
    lambda role, text: {"role": role, "content": text}, st.sampled_from(["user", "assistant", "system"]), words
)


@st.composite
def rounds(draw: st.DrawFn) -> list[Json]:
    """Calls of the assistant, and their results in any order."""
    ids = draw(st.lists(st.sampled_from(["call_1", "call_2", "call_3"]), min_size=1, max_size=3, unique=True))
    function = st.fixed_dictionaries({"name": st.sampled_from(["find", "weather"]), "arguments": words})
    calls = [{"id": name, "type": "function", "function": draw(function)} for name in ids]
    content = draw(words | st.none())
    results = [{"role": "tool", "content": draw(words), "tool_call_id": name} for name in draw(st.permutations(ids))]
    return [{"role": "assistant", "content": content, "tool_calls": calls}, *results]


conversations = st.lists(st.lists(texts, min_size=1, max_size=3) | rounds(), min_size=1, max_size=5).map(
    lambda parts: [message for part in parts for message in part]
)


def find_paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return every path in a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *[place for key, part in inner for place in find_paths(part, (*path, key))]]


@st.composite
def nearly_plain_messages(draw: st.DrawFn) -> Any:
    """A conversation with one value changed, removed or added."""
    messages: Any = {"messages": copy.deepcopy(draw(conversations))}
    *path, last = draw(st.sampled_from([place for place in find_paths(messages) if place]))
    parent = messages
    for step in path:
        parent = parent[step]
    match draw(st.sampled_from(["change", "drop", "add", "repeat"])):
        case "change":
            parent[last] = draw(json_values | st.sampled_from(["user", "tool", "assistant", "function", "call_1", ""]))
        case "drop":
            del parent[last]
        case "add" if isinstance(parent, dict):
            parent[draw(st.sampled_from(["name", "refusal", "tool_calls", "async"]))] = draw(json_values)
        case _ if isinstance(parent, list):
            parent.append(parent[last])
        case _:
            pass
    return messages.get("messages")


def validate_fully(raw: Json) -> Any:
    """Return the outcome of full validation."""
    try:
        return parse_messages(validate(ChatCompletionRequest, raw).messages)
    except InvalidRequest as error:
        return error.message, error.param, error.code


def parse_or_error(raw: Json) -> AgentRequest | tuple[str, str | None, str | None]:
    try:
        return parse_chat(json.dumps(raw).encode()).request
    except InvalidRequest as error:
        return error.message, error.param, error.code


@given(conversations)
def test_plain_messages_are_typed_as_they_would_be_if_they_were_validated(messages: list[Json]) -> None:
    raw = {"model": "agent", "messages": messages}
    request = parse_or_error(raw)
    assert isinstance(request, AgentRequest)
    assert request.plain is (messages[-1]["role"] != "tool")
    prompt = request.prompt  # read before `messages` is typed
    assert request.messages == validate_fully(raw)
    again = parse_or_error(raw)
    assert isinstance(again, AgentRequest)
    assert len(again.messages) == len(messages)
    assert again.prompt == prompt


@given(nearly_plain_messages())
def test_what_is_not_quite_plain_gets_the_answer_that_it_gets_without_looking_for_plain_ones(messages: Any) -> None:
    raw = {"model": "agent", "messages": messages}
    request, wanted = parse_or_error(raw), validate_fully(raw)
    if isinstance(request, AgentRequest):
        assert request.messages == wanted
        if request.plain:
            check_conversation(request.messages)
            assert request.resume is None
    else:
        assert request == wanted


@given(conversations, json_values)
def test_another_field_that_is_wrong_is_told_as_ever(messages: list[Json], value: Any) -> None:
    raw = {"model": "agent", "messages": messages, "temperature": value}
    request, wanted = parse_or_error(raw), validate_fully(raw)
    assert (request.messages if isinstance(request, AgentRequest) else request) == wanted


@pytest.mark.parametrize(
    "last",
    [
        {"role": "user", "content": "hi", "name": "ann"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": "hi", "refusal": None},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "content": "alone", "tool_call_id": "call_1"},
    ],
)
def test_what_has_more_to_it_than_texts_and_calls_is_not_plain(last: Json) -> None:
    request = parse_chat(json.dumps({"model": "agent", "messages": [{"role": "user", "content": "hi"}, last]}).encode())
    assert not request.request.plain


def test_a_conversation_that_ends_with_results_is_resumed() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "found", "tool_call_id": "call_1"},
    ]
    request = parse_chat(json.dumps({"model": "agent", "messages": messages}).encode()).request
    assert request.resume is not None
    assert request.resume.results["call_1"].name == "find"
