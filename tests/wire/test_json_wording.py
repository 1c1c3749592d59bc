"""Error messages use this project's wording, not pydantic's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from openai_compat.errors import InvalidRequest
from openai_compat.wire.chat.request_types import ChatCompletionRequest
from openai_compat.wire.chat_rest.types import AgenticRequest, RestNewConversation
from openai_compat.wire.chat_websocket.parse import ApprovalFrame, ManifestFrame, MessageFrame
from openai_compat.wire.conversations import ConversationCreate
from openai_compat.wire.json import validate
from openai_compat.wire.responses.request_types import ResponseRequest
from tests.requirements import requirement

MODELS: list[type[BaseModel]] = [
    ChatCompletionRequest,
    ResponseRequest,
    ConversationCreate,
    AgenticRequest,
    RestNewConversation,
    MessageFrame,
    ManifestFrame,
    ApprovalFrame,
]
THEIRS = (
    "input should",
    "validation",
    "valid string",
    "valid integer",
    "valid list",
    "valid dict",
    "instance of",
    "extra",
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=600),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.sampled_from(["type", "role", "content", "name", "text"]), inner, max_size=4)
    ),
    max_leaves=8,
)


def error_message(model: type[BaseModel], body: dict[str, Any]) -> str:
    try:
        validate(model, body)
    except InvalidRequest as error:
        return error.message
    return ""


@requirement("errors.words")
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@given(data=st.data())
def test_whatever_is_wrong_with_a_body_is_told_in_our_own_words(model: type[BaseModel], data: st.DataObject) -> None:
    names = [field.alias or name for name, field in model.model_fields.items()]
    told = error_message(model, data.draw(st.dictionaries(st.sampled_from(names), VALUES)))
    assert not [words for words in THEIRS if words in told.lower()], told
    assert "cannot be used" not in told, told


@requirement("errors.words")
@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"tools": 1}, "Invalid value for 'tools': should be a list."),
        ({"temperature": "hot"}, "Invalid value for 'temperature': should be a number."),
        ({"temperature": 3}, "Invalid value for 'temperature': should be 2 or less."),
        ({"stop": ["a"] * 5}, "Invalid value for 'stop': should have at most 4 items."),
        (
            {"tools": [{"type": "custom", "custom": {"name": ""}}]},
            "Invalid value for 'tools[0].custom.name': does not have",
        ),
        ({"stream": "yes"}, "Invalid value for 'stream': should be true or false."),
        ({"reasoning_effort": "much"}, "Invalid value for 'reasoning_effort': should be "),
    ],
)
def test_a_person_can_act_on_what_is_told(fields: dict[str, Any], told: str) -> None:
    body = {"model": "a", "messages": [{"role": "user", "content": "hi"}], **fields}
    assert error_message(ChatCompletionRequest, body).startswith(told)
