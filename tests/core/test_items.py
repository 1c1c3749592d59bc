"""Conversations are stored as items: what was said comes back from them as it was, whatever they hold."""

from __future__ import annotations

import functools
import itertools
import json
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
from openai_compat.parsers.items import SUMMARY, parse_items
from openai_compat.serializers.history import chat_message
from openai_compat.serializers.items import chat_messages_of, compaction_item, items_of

from .strategies import json_values, texts

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


def ids() -> Callable[[str], str]:
    numbers = itertools.count(1)
    return lambda prefix: f"{prefix}{next(numbers)}"


def written(conversation: Sequence[Message]) -> list[Item]:
    new_id = ids()
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
    assert parse_items(items_of(message, ids(), call_ids)) == (message,)


@given(messages)
def test_every_item_is_what_the_sdk_and_its_conversations_expect(message: Message) -> None:
    for item in items_of(message, ids()):
        if any(part.get("type") == "input_audio" for part in item.get("content", ())):
            continue  # the Responses API has no speech; the conversations of chat have
        for kind in sdk_kinds():
            kind.validate_python(item, strict=True)
        assert item["id"].startswith(("msg_", "fc_", "fco_", "ctc_", "ctco_", "rs_"))
        assert item["status"] == "completed"


def test_the_sdk_would_notice_what_is_missing() -> None:
    (item,) = items_of(AssistantMessage((TextPart("hi"),)), ids())
    del item["content"][0]["annotations"]
    with pytest.raises(ValidationError):
        sdk_kinds()[0].validate_python(item, strict=True)
