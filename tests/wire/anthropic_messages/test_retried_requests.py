"""A request that Claude Code resends is recognised by what it wants, and answered with the missing part."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openai_compat import Finished, MessageBreak, ReasoningDelta, ToolCallReady, ToolResult
from openai_compat.wire.anthropic_messages.retried_requests import RestOfAnswer, fold_answer, wanted_answer
from openai_compat.wire.reducer import Item
from tests.requirements import requirement
from tests.wire.anthropic_messages.reading import check_order, fold_stream, parse_stream, write_answer

CUT_OFF = {
    "type": "text",
    "text": "<system-reminder>\nYour response above was cut off mid-stream. Resume directly from where it stops — no "
    "apology, no recap. If none of it survived, answer the request from the start.\n</system-reminder>",
}
TO_AN_AGENT = {
    "type": "text",
    "text": "<system-reminder>\nYour response above was cut off mid-stream and only your next message is delivered. Write the "
    "complete response again from the start — no apology, no mention of the cut-off.\n</system-reminder>",
}
CACHED = {"cache_control": {"type": "ephemeral"}}
SAID: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "text", "text": "<system-reminder>\nThe date.\n</system-reminder>"}]},
    {"role": "user", "content": [{"type": "text", "text": "do it"}]},
    {"role": "system", "content": [{"type": "text", "text": "Where you are.", **CACHED}]},
]
FIRST: dict[str, Any] = {
    "model": "agent",
    "max_tokens": 32000,
    "stream": True,
    "system": [{"type": "text", "text": "x-anthropic-billing-header: 1"}, {"type": "text", "text": "Be brief."}],
    "tools": [{"name": "Bash", "input_schema": {"type": "object"}}],
    "messages": SAID,
}
SURVIVED = [{"type": "thinking", "thinking": "", "signature": "s"}, {"type": "text", "text": "One."}]
MORE = {"type": "text", "text": "Two."}


def request_with(*said: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(FIRST), "messages": list(said), **fields}


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


NOTHING_SURVIVED = user({"type": "text", "text": "do it\n"}, CUT_OFF)
TWICE = [
    assistant(*SURVIVED),
    {"role": "user", "content": CUT_OFF["text"]},
    assistant(MORE),
    user({**CUT_OFF, **CACHED}),
]


@requirement("anthropic.reconnect")
@pytest.mark.parametrize(
    ("body", "survived"),
    [
        (FIRST, []),
        ({name: value for name, value in FIRST.items() if name != "stream"}, []),
        (request_with(*SAID[:2], {"role": "system", "content": "Where you are."}, max_tokens=64000), []),
        (request_with(SAID[0], NOTHING_SURVIVED, SAID[2]), []),
        (request_with(*SAID, assistant(*SURVIVED), user(CUT_OFF)), SURVIVED),
        (request_with(*SAID, *TWICE), [*SURVIVED, MORE]),
        (request_with(*SAID, assistant(*SURVIVED), user(TO_AN_AGENT)), []),
    ],
)
def test_a_request_that_is_sent_again_asks_for_the_same_answer(body: dict[str, Any], survived: list[Any]) -> None:
    before = copy.deepcopy(body)
    found = wanted_answer(body)
    assert found.digest == wanted_answer(FIRST).digest
    assert list(found.survived) == survived
    assert body == before


@requirement("anthropic.reconnect")
@pytest.mark.parametrize(
    "body",
    [
        request_with(*SAID, assistant(*SURVIVED), user({"type": "text", "text": "do it"})),
        request_with(*SAID, assistant(*SURVIVED), user(CUT_OFF), assistant(MORE), user(MORE)),
        request_with(SAID[0], user({"type": "text", "text": "do that"}), SAID[2]),
        request_with(*SAID, user({"type": "text", "text": CUT_OFF["text"].removeprefix("<system-reminder>")})),
        request_with(*SAID, model="other"),
        request_with(*SAID, tools=[]),
        request_with(*SAID, system="Be long."),
    ],
)
def test_a_conversation_that_has_got_on_or_another_one_asks_for_something_else(body: dict[str, Any]) -> None:
    assert wanted_answer(body).digest != wanted_answer(FIRST).digest


OWN: list[Item] = [ToolCallReady("o", "look", '{"a": 1}', "agent"), ToolResult("o", "found")]
PARTS: list[list[Item]] = [
    ["One ", "text. ", MessageBreak()],
    ["Another\n", MessageBreak()],
    [ReasoningDelta("Hm"), ReasoningDelta("m.")],
    [ReasoningDelta("", "secret", redacted=True)],
    OWN,
]
CALL = ToolCallReady("c", "Bash", '{"command": "ls"}', "client")


@requirement("anthropic.reconnect")
@settings(max_examples=60)
@given(st.lists(st.sampled_from(PARTS), max_size=6), st.booleans(), st.data())
def test_what_has_survived_and_the_rest_are_the_whole_answer(
    parts: list[list[Item]], calls: bool, data: st.DataObject
) -> None:
    items: list[Item] = [item for part in parts for item in part] + ([CALL] if calls else [])
    stream = write_answer([*items, "end", Finished()], streams=True, thinking="shown", own_tools="blocks")
    blocks = fold_stream(parse_stream(stream))["content"]
    survived = blocks[: data.draw(st.integers(1, len(blocks)))]
    rest, frames = RestOfAnswer(survived, "msg_2"), stream.split(b"\n\n")[:-1]
    cut = data.draw(st.integers(0, len(frames)))
    pieces = [b"".join([frame + b"\n\n" for frame in part]) for part in (frames[:cut], frames[cut:])]
    events = parse_stream(b"".join(map(rest.feed, pieces)))
    check_order(events)
    told = fold_stream(events)
    assert told["id"] == "msg_2"
    # Of several equal blocks in a row, any may be the one that the client has.
    assert [*survived, *told["content"]] == blocks


@requirement("anthropic.reconnect")
def test_who_has_something_else_of_the_answer_gets_all_of_it() -> None:
    stream = write_answer(["One.", MessageBreak(), "Two.", Finished()], streams=True)
    told = fold_stream(parse_stream(RestOfAnswer([{"type": "text", "text": "Three."}], "msg_2").feed(stream)))
    assert [block["text"] for block in told["content"]] == ["One.", "Two."]


@requirement("anthropic.order")
@given(st.lists(st.sampled_from(PARTS), max_size=6))
def test_a_stream_is_put_together_to_the_plain_answer(parts: list[list[Item]]) -> None:
    items: list[Item] = [*[item for part in parts for item in part], CALL, Finished()]
    form: dict[str, Any] = {"thinking": "shown", "own_tools": "blocks"}
    good, body = fold_answer(write_answer(items, streams=True, **form))
    plain, told = json.loads(write_answer(items, streams=False, **form)), json.loads(body)
    assert good
    assert {**told, "usage": None} == {**plain, "usage": None}
    assert told["usage"].items() >= plain["usage"].items()
