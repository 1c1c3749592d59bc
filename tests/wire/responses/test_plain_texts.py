"""Text-only requests, which skip typing, give agents the same messages, dicts and prompt as any other request."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from openai_compat import AgentRequest
from openai_compat.agent_request import Caller
from openai_compat.wire.items.parse import parse_items
from openai_compat.wire.responses.parse.request import parse_response, with_context
from openai_compat.wire.serialize_messages import chat_message

Item = dict[str, Any]

ROLES = ("user", "assistant", "system", "developer")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
CALL: Item = {"type": "function_call", "call_id": "call_1", "name": "find", "arguments": "{}"}
RESULT: Item = {"type": "function_call_output", "call_id": "call_1", "output": "found"}


def message(role: str, text: str, more: Item) -> Item:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}], **more}


def messages(more: st.SearchStrategy[Item]) -> st.SearchStrategy[list[list[Item]]]:
    return st.lists(st.builds(lambda *given: [message(*given)], st.sampled_from(ROLES), TEXT, more), max_size=4)


PICTURE = {"type": "input_image", "image_url": "https://a.example/a.png", "detail": "auto"}
NEARLY: st.SearchStrategy[Item] = st.sampled_from(
    [
        {},
        {"name": "ann"},
        {"content": []},
        {"content": "hi"},
        {"content": [PICTURE], "role": "user"},
        {"content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        {"content": [{"type": "refusal", "refusal": "no"}], "role": "assistant"},
        {"content": [{"type": "output_text", "text": ""}], "role": "assistant"},
    ]
)
OTHERS: st.SearchStrategy[list[Item]] = st.sampled_from(
    [[CALL, RESULT], [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}]]
)


def parse_request(sent: str | list[Item], before: list[Item], instructions: str | None) -> AgentRequest:
    numbers = itertools.count(1)
    body = {"model": "agent", "input": sent, "instructions": instructions, "previous_response_id": "resp_1"}
    parsed = parse_response(json.dumps(body).encode(), Caller(), lambda prefix: f"{prefix}{next(numbers)}")
    return with_context(parsed, [{"id": f"msg_b{n}", **item} for n, item in enumerate(before)]).request


def check_request(request: AgentRequest) -> None:
    prompt = request.prompt  # read before `messages` is typed
    assert request.raw_items is not None
    typed = parse_items(request.raw_items)
    assert request.raw_messages == [chat_message(message) for message in typed]
    assert request.messages == typed
    assert prompt == AgentRequest(model="agent", messages=typed, raw_messages=request.raw_messages).prompt


@given(TEXT.filter(bool), messages(st.just({})), st.none() | TEXT)
def test_texts_are_what_they_would_be_if_they_were_typed(
    sent: str, before: list[list[Item]], instructions: str | None
) -> None:
    context = list(itertools.chain(*before))
    request = parse_request(sent, context, instructions)
    empty = instructions == "" or any([not item["content"][0]["text"] for item in context])
    assert request.plain is not empty
    check_request(request)


@given(messages(NEARLY), st.lists(OTHERS, max_size=1), messages(NEARLY))
def test_what_has_more_to_it_is_what_it_ever_was(
    before: list[list[Item]], others: list[list[Item]], sent: list[list[Item]]
) -> None:
    check_request(
        parse_request(
            [*itertools.chain(*sent), {"role": "user", "content": "hi"}], list(itertools.chain(*before, *others)), None
        )
    )


def test_a_named_message_a_picture_and_a_call_are_no_texts_alone() -> None:
    hi = message("user", "hi", {})
    assert parse_request([hi], [], None).plain
    for more in (message("user", "hi", {"name": "ann"}), message("user", "", {"content": [PICTURE]})):
        assert not parse_request([more], [], None).plain
    assert not parse_request([hi], [hi, CALL, RESULT], None).plain
