"""A history reaches the agent only if every call has exactly one result; otherwise it is rejected."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.agent_request import AgentRequest, Resume
from openai_compat.errors import InvalidRequest
from openai_compat.messages import (
    AssistantMessage,
    AudioPart,
    FilePart,
    ImagePart,
    Message,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from openai_compat.wire.chat.parse import MAX_MESSAGES, parse_chat
from openai_compat.wire.conversation_rules import check_conversation

USER = {"role": "user", "content": "hi"}


def parse_conversation(messages: list[dict[str, Any]]) -> AgentRequest:
    request = parse_chat(json.dumps({"model": "agent", "messages": messages}).encode()).request
    check_conversation(request.messages)
    return request


def call_message(*call_ids: str) -> dict[str, Any]:
    calls = [{"id": i, "type": "function", "function": {"name": f"tool_{i}", "arguments": "{}"}} for i in call_ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result_message(call_id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": f"result of {call_id}"}


def is_paired(messages: tuple[Message, ...]) -> bool:
    """True if each assistant message is directly followed by exactly one result per call, and there are no other results."""
    waiting: list[str] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            if message.call_id not in waiting:
                return False
            waiting.remove(message.call_id)
        elif waiting:
            return False
        elif isinstance(message, AssistantMessage):
            waiting = [call.call_id for call in message.tool_calls]
    return not waiting


ids = st.sampled_from(["1", "2", "3"])
history = st.lists(
    st.one_of(
        st.just(USER),
        st.just({"role": "assistant", "content": "well"}),
        st.just({"role": "system", "content": "be kind"}),
        st.lists(ids, min_size=1, max_size=3).map(lambda call_ids: call_message(*call_ids)),
        ids.map(result_message),
    ),
    max_size=8,
)
rounds = st.lists(
    st.lists(ids, min_size=1, max_size=3, unique=True).flatmap(
        lambda call_ids: st.permutations(call_ids).map(
            lambda order: [call_message(*call_ids), *map(result_message, order)]
        )
    ),
    max_size=4,
)


def error_param(messages: list[dict[str, Any]]) -> str | None:
    """Return the `param` of the error in a conversation, or None if it is valid."""
    try:
        parse_conversation(messages)
    except InvalidRequest as error:
        return str(error.param)
    return None


@given(history)
def test_what_the_agent_gets_is_paired_and_what_is_not_paired_is_refused(messages: list[dict[str, Any]]) -> None:
    wrong = error_param([USER, *messages])
    if wrong is None:
        request = parse_conversation([USER, *messages])
        assert is_paired(request.messages)
        assert len(request.messages) == len(messages) + 1
    else:
        assert re.fullmatch(r"messages\[\d\]\.(tool_call_id|tool_calls(\[\d\]\.id)?)", wrong)


@given(rounds)
def test_calls_with_their_results_are_accepted_in_any_order_of_the_results(
    calls: list[list[dict[str, Any]]],
) -> None:
    messages = [USER, *[message for one_round in calls for message in one_round]]
    request = parse_conversation(messages)
    assert request.raw_messages == messages
    assert [m.text for m in request.messages if isinstance(m, ToolMessage)] == [
        m["content"] for m in messages if m["role"] == "tool"
    ]
    names = [m.name for m in request.messages if isinstance(m, ToolMessage)]
    assert names == ["tool_" + m["tool_call_id"] for m in messages if m["role"] == "tool"]


@given(rounds)
def test_results_at_the_end_are_what_the_turn_resumes_with(calls: list[list[dict[str, Any]]]) -> None:
    request = parse_conversation([USER, *[message for one_round in calls for message in one_round]])
    if not calls:
        assert request.resume is None
        return
    last = [m["tool_call_id"] for m in calls[-1][1:]]
    assert request.resume == Resume({i: ToolMessage(i, f"result of {i}", f"tool_{i}") for i in last})
    assert [*request.resume.results] == last
    assert [m.call_id for m in request.new_messages if isinstance(m, ToolMessage)] == last


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([USER, result_message("1")], "messages[1].tool_call_id"),
        ([USER, call_message("1")], "messages[1].tool_calls"),
        ([USER, call_message("1"), USER], "messages[1].tool_calls"),
        ([USER, call_message("1", "2"), result_message("1")], "messages[1].tool_calls"),
        ([USER, call_message("1"), result_message("1"), result_message("1")], "messages[3].tool_call_id"),
        ([USER, call_message("1"), result_message("2")], "messages[2].tool_call_id"),
        ([USER, call_message("1", "1"), result_message("1")], "messages[1].tool_calls[1].id"),
        ([result_message("1"), USER], "messages[0].tool_call_id"),
    ],
)
def test_where_history_is_wrong_is_said(messages: list[dict[str, Any]], param: str) -> None:
    assert error_param(messages) == param


def test_a_call_that_may_be_answered_later_needs_no_answer() -> None:
    later = call_message("1", "2")
    later["tool_calls"][0]["async"] = True
    request = parse_conversation([USER, later, result_message("2"), {"role": "assistant", "content": "working"}, USER])
    assert [m.call_id for m in request.messages if isinstance(m, ToolMessage)] == ["2"]


def test_a_call_that_may_be_answered_later_is_answered_in_any_later_message_once() -> None:
    later = call_message("1")
    later["tool_calls"][0]["async"] = True
    request = parse_conversation([USER, later, {"role": "assistant", "content": "working"}, USER, result_message("1")])
    assert request.messages[-1] == ToolMessage("1", "result of 1", "tool_1")
    assert error_param([USER, later, result_message("1"), USER, result_message("1")]) == "messages[4].tool_call_id"


def test_every_kind_of_message_becomes_typed() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "n"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "one"},
                {"type": "image_url", "image_url": {"url": "https://a.example", "detail": "high"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
                {"type": "file", "file": {"file_data": "AAAA", "filename": "a.pdf"}},
                {"type": "text", "text": "two"},
            ],
        },
        {
            "role": "assistant",
            "content": "well",
            "refusal": "no",
            "reasoning_content": "hm",
            "tool_calls": [{"id": "1", "type": "custom", "custom": {"name": "write_code", "input": "x"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "ran"}]},
    ]
    request = parse_conversation(messages)
    assert request.messages == (
        SystemMessage("a\nb", "developer", "n"),
        UserMessage(
            (
                TextPart("one"),
                ImagePart("https://a.example", "high"),
                AudioPart("AAAA", "mp3"),
                FilePart(file_data="AAAA", filename="a.pdf"),
                TextPart("two"),
            )
        ),
        AssistantMessage(
            (TextPart("well"), RefusalPart("no")), (ToolCall("1", "write_code", "x", "custom"),), reasoning="hm"
        ),
        ToolMessage("1", "ran", "write_code"),
    )
    assert request.prompt == "one\ntwo"
    assert request.new_messages == request.messages[3:]


def test_more_messages_than_a_person_could_have_sent_are_refused_before_they_are_read() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_conversation([{"role": "user", "content": "x"}] * (MAX_MESSAGES + 1))
    assert refused.value.param == "messages"
