"""Conversations are stored as items and restored unchanged, whatever their content."""

from __future__ import annotations

import base64
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.conversations import ConversationItem
from openai.types.responses import ResponseInputItem, ResponseItem
from pydantic import TypeAdapter, ValidationError

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
from openai_compat.wire.items.parse import SUMMARY, parse_items
from openai_compat.wire.serialize_messages import chat_message, chat_messages_of, compaction_item, items_of
from tests.support.strategies import json_values, texts

Item = dict[str, Any]

names = st.none() | texts
details = st.sampled_from(["auto", "low", "high", "original"])
images = st.builds(ImagePart, texts, details)
files = st.builds(FilePart, names, names, names, names)
speech = st.builds(AudioPart, texts, st.sampled_from(["mp3", "wav"]))
input_parts = st.lists(st.builds(TextPart, texts) | images | files | speech, max_size=3).map(tuple)
said = st.lists(st.builds(TextPart, texts) | st.builds(RefusalPart, texts), max_size=3).map(tuple)
calls = st.lists(
    st.builds(ToolCall, texts, texts, texts, st.sampled_from(["function", "custom"]), deferred=st.booleans()),
    max_size=3,
).map(tuple)
media = st.lists(images | files, max_size=2).map(tuple)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(SystemMessage, texts, st.sampled_from(["system", "developer"]), names),
    st.builds(UserMessage, input_parts, names),
    st.builds(AssistantMessage, said, calls, names, names),
    st.builds(ToolMessage, texts, texts, texts, media),
)


@functools.cache
def sdk_kinds() -> list[TypeAdapter[Any]]:
    return [TypeAdapter(kind) for kind in (ResponseItem, ResponseInputItem, ConversationItem)]


def new_ids() -> Callable[[str], str]:
    numbers = itertools.count(1)
    return lambda prefix: f"{prefix}{next(numbers)}"


def to_items(conversation: Sequence[Message]) -> list[Item]:
    new_id = new_ids()
    custom = {
        call.call_id
        for message in conversation
        if isinstance(message, AssistantMessage)
        for call in message.tool_calls
        if call.kind == "custom"
    }
    return [item for message in conversation for item in items_of(message, new_id, custom)]


@given(messages, st.booleans())
def test_a_message_comes_back_from_its_items_as_it_was(message: Message, custom: bool) -> None:
    call_ids = [message.call_id] if custom and isinstance(message, ToolMessage) else []
    assert parse_items(items_of(message, new_ids(), call_ids)) == (message,)


@given(messages)
def test_every_item_is_what_the_sdk_and_its_conversations_expect(message: Message) -> None:
    for item in items_of(message, new_ids()):
        if any(part.get("type") == "input_audio" for part in item.get("content", ())):
            continue  # the Responses API has no speech; chat conversations do
        for kind in sdk_kinds():
            kind.validate_python(item, strict=True)
        assert item["id"].startswith(("msg_", "fc_", "fco_", "ctc_", "ctco_", "rs_"))
        assert item["status"] == "completed"


def test_the_sdk_would_notice_what_is_missing() -> None:
    (item,) = items_of(AssistantMessage((TextPart("hi"),)), new_ids())
    del item["content"][0]["annotations"]
    with pytest.raises(ValidationError):
        sdk_kinds()[0].validate_python(item, strict=True)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Consecutive turns: a user message, calls with their results in any order, an answer."""
    numbers, conversation = itertools.count(), list[Message]()
    for _ in range(draw(st.integers(1, 3))):
        conversation.append(UserMessage((TextPart(draw(texts)),)))
        for _ in range(draw(st.integers(0, 2))):
            kinds = draw(st.lists(st.sampled_from(["function", "custom"]), min_size=1, max_size=3))
            made = [ToolCall(f"call_{next(numbers)}", f"tool_{kind}", "{}", kind) for kind in kinds]
            thought = draw(names)
            conversation.append(AssistantMessage(draw(said), tuple(made), thought))
            answered = draw(st.permutations(made))
            conversation += [ToolMessage(call.call_id, draw(texts), call.name) for call in answered]
        conversation.append(AssistantMessage((TextPart(draw(texts)),), (), draw(names)))
    return conversation


@given(conversations())
def test_a_conversation_comes_back_from_its_items_as_it_was(conversation: list[Message]) -> None:
    assert parse_items(to_items(conversation)) == tuple(conversation)


@given(conversations())
def test_chat_reads_the_same_conversation(conversation: list[Message]) -> None:
    assert chat_messages_of(to_items(conversation)) == [chat_message(message) for message in conversation]


def test_a_call_that_may_be_answered_later_stays_where_it_was_and_so_does_its_result() -> None:
    later = ToolCall("1", "find", "{}", deferred=True)
    conversation: list[Message] = [
        UserMessage((TextPart("hi"),)),
        AssistantMessage((), (later,)),
        AssistantMessage((TextPart("working"),)),
        UserMessage((TextPart("and?"),)),
        ToolMessage("1", "found", "find"),
    ]
    assert parse_items(to_items(conversation)) == tuple(conversation)
    assert chat_messages_of(to_items(conversation))[1]["tool_calls"][0]["async"] is True


def call(call_id: str, name: str = "find") -> Item:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": "{}"}


def result(call_id: str, output: Any = "found") -> Item:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def message(text: str, role: str = "assistant") -> Item:
    return {"type": "message", "role": role, "content": [{"type": "output_text", "text": text}]}


def reasoning_item(*paragraphs: str) -> Item:
    return {"type": "reasoning", "summary": [{"type": "summary_text", "text": text} for text in paragraphs]}


def text_parts(text: str) -> tuple[TextPart]:
    return (TextPart(text),)


FOUND = [ToolMessage(call_id, "found", "find") for call_id in "123"]
CALLS = [ToolCall(call_id, "find", "{}") for call_id in "123"]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([message("a"), call("1"), result("1")], [AssistantMessage(text_parts("a"), (CALLS[0],)), FOUND[0]]),
        ([call("1"), message("a"), result("1")], [AssistantMessage(text_parts("a"), (CALLS[0],)), FOUND[0]]),
        ([call("1"), call("2"), result("2"), result("1")], [AssistantMessage((), (*CALLS[:2],)), FOUND[1], FOUND[0]]),
        (
            [call("1"), result("1"), call("2"), result("2")],
            [AssistantMessage((), (CALLS[0],)), FOUND[0], AssistantMessage((), (CALLS[1],)), FOUND[1]],
        ),
        (
            [reasoning_item("x"), call("1"), reasoning_item("y"), call("2"), result("1"), result("2")],
            [AssistantMessage((), (*CALLS[:2],), "x\n\ny"), *FOUND[:2]],
        ),
        (
            [call("1"), result("1"), message("late"), call("2"), message("last"), result("2")],
            [
                AssistantMessage((), (CALLS[0],)),
                FOUND[0],
                AssistantMessage((TextPart("late"), TextPart("last")), (CALLS[1],)),
                FOUND[1],
            ],
        ),
        ([message("a"), message("b")], [AssistantMessage(text_parts("a")), AssistantMessage(text_parts("b"))]),
        (
            [reasoning_item("x"), message("a"), reasoning_item("y"), message("b")],
            [AssistantMessage(text_parts("a"), (), "x"), AssistantMessage(text_parts("b"), (), "y")],
        ),
        ([reasoning_item("x", "y")], [AssistantMessage((), (), "x\n\ny")]),
        ([reasoning_item()], [AssistantMessage()]),
        (
            [call("1"), message("stop", "user"), result("1")],
            [AssistantMessage((), (CALLS[0],)), FOUND[0], UserMessage(text_parts("stop"))],
        ),
        ([result("1")], [ToolMessage("1", "found", "")]),
        ([{**call("1"), "status": "incomplete"}, message("a")], [AssistantMessage(text_parts("a"))]),
        ([{"role": "assistant", "content": ""}], [AssistantMessage()]),
        ([{"role": "user", "content": "hi", "type": None}], [UserMessage(text_parts("hi"))]),
        ([{"type": "web_search_call", "id": "ws_1"}, {"type": "acme:x"}, {}, {"type": "mcp_call"}], []),
    ],
)
def test_what_the_assistant_did_becomes_messages_as_chat_would_have_them(
    items: list[Item], expected: list[Message]
) -> None:
    assert parse_items(items) == tuple(expected)


def test_every_kind_of_part_becomes_typed() -> None:
    (asked,) = parse_items(
        [
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "one"},
                    {"type": "input_image", "image_url": "https://a.example", "detail": "high"},
                    {"type": "input_image", "file_id": "file-1"},
                    {"type": "input_file", "file_url": "https://a.example/b.pdf", "filename": "b.pdf"},
                    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
                    {"type": "hologram"},
                ],
            }
        ]
    )
    assert asked == UserMessage(
        (
            TextPart("one"),
            ImagePart("https://a.example", "high"),
            FilePart(file_id="file-1"),
            FilePart(file_url="https://a.example/b.pdf", filename="b.pdf"),
            AudioPart("AAAA", "mp3"),
        )
    )


def test_a_result_keeps_its_pictures_beside_its_text() -> None:
    output = [{"type": "input_text", "text": "see"}, {"type": "input_image", "image_url": "data:,", "detail": "auto"}]
    assert parse_items([call("1"), result("1", output)])[1] == ToolMessage("1", "see", "find", (ImagePart("data:,"),))


def test_a_compaction_stands_for_what_was_said_before_the_users_last_word() -> None:
    items = [
        message("be kind", "system"),
        message("first", "user"),
        message("answer"),
        message("second", "user"),
        compaction_item("They greeted.", new_ids()),
        message("well"),
    ]
    assert parse_items(items) == (
        SystemMessage("be kind"),
        AssistantMessage(text_parts(SUMMARY + "They greeted.")),
        UserMessage(text_parts("second")),
        AssistantMessage(text_parts("well")),
    )


def test_a_compaction_alone_carries_the_summary() -> None:
    assert parse_items([compaction_item("\ud83d once", new_ids())]) == (
        AssistantMessage(text_parts(SUMMARY + "\ud83d once")),
    )


@pytest.mark.parametrize(
    "content",
    [None, 5, "", "gAAAAABo", "é", base64.b64encode(b"[]").decode(), base64.b64encode(b'{"summary": 5}').decode()],
)
def test_a_compaction_of_another_server_is_left_out(content: Any) -> None:
    items = [message("hi", "user"), {"type": "compaction", "encrypted_content": content}]
    assert parse_items(items) == (UserMessage(text_parts("hi")),)


def test_a_compaction_made_to_hurt_is_left_out() -> None:
    deep = base64.b64encode(b"[" * 100_000).decode()
    assert parse_items([{"type": "compaction", "encrypted_content": deep}]) == ()


KINDS = "message function_call function_call_output custom_tool_call custom_tool_call_output reasoning compaction"
CONTENT = "input_text output_text input_image input_file input_audio refusal summary_text"
FIELDS: dict[str, list[Any]] = {
    "type": [*KINDS.split(), *CONTENT.split(), "mcp_call"],
    "role": ["user", "assistant", "system", "developer", "tool"],
    "call_id": ["1", "2"],
    "async": [True],
    "status": ["completed", "incomplete"],
}
NAMES = "content summary output arguments input text refusal image_url detail input_audio file_id data name id"


def arbitrary_items(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Item]:
    """Objects with fields of items and parts, whose values are valid, invalid, or drawn from `inner`."""
    likely = {key: st.sampled_from(FIELDS.get(key, ["x", None])) | inner for key in [*FIELDS, *NAMES.split()]}
    return st.fixed_dictionaries({}, optional=likely)


parts = st.lists(arbitrary_items(json_values), max_size=2)


@given(st.lists(arbitrary_items(parts), max_size=4))
def test_nothing_that_is_stored_makes_reading_fail(items: list[Item]) -> None:
    for message in parse_items(items):
        assert parse_items(items_of(message, new_ids())) == (message,)
    chat_messages_of(items)
