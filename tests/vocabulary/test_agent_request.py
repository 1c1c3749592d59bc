"""The computed properties of an AgentRequest: made on first use, and the same for every API."""

from __future__ import annotations

import base64
from dataclasses import FrozenInstanceError, fields, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat import AgentRequest, Capabilities, FunctionTool, Sampling, UsageReported
from openai_compat.agent_request import Caller, CustomTool, JsonSchema, Principal
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
    UserTurn,
    transcript,
)
from openai_compat.wire.chat.parse import parse_chat
from openai_compat.wire.json import dumps
from tests.requirements import requirement

PNG = b"\x89PNG\r\n"
PNG_URL = "data:image/png;base64," + base64.b64encode(PNG).decode()


def asked(*messages: Message, **more: Any) -> AgentRequest:
    return AgentRequest(model="m", messages=messages, raw_messages=[], **more)


def user(text: str) -> UserMessage:
    return UserMessage((TextPart(text),))


def assistant(text: str, *calls: str, reasoning: str | None = None) -> AssistantMessage:
    return AssistantMessage((TextPart(text),), tuple([ToolCall(c, "find", "{}") for c in calls]), reasoning)


def result(call_id: str) -> ToolMessage:
    return ToolMessage(call_id, f"result of {call_id}", "find")


def test_a_request_of_texts_is_the_same_as_one_made_field_by_field_and_cannot_be_changed() -> None:
    raw, caller = [{"role": "user", "content": "hi"}], Caller(Principal("me"), {"x-team": "1"})
    quick = AgentRequest.of_texts("m", raw, stream=True, caller=caller)
    whole = asked(user("hi"), stream=True, principal=Principal("me"), headers={"x-team": "1"})
    assert quick == replace(whole, raw_messages=raw)
    assert replace(quick, model="other") == replace(whole, raw_messages=raw, model="other")
    assert [getattr(quick, each.name) for each in fields(AgentRequest) if each.init] == [
        getattr(replace(whole, raw_messages=raw), each.name) for each in fields(AgentRequest) if each.init
    ]
    with pytest.raises(FrozenInstanceError):
        quick.model = "other"  # type: ignore[misc]  # what is tested


# the client's tools


def test_a_tool_has_a_schema_of_an_object_whatever_the_client_has_sent() -> None:
    city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    assert FunctionTool("find", parameters=city).input_schema == city
    assert FunctionTool("find").input_schema == {"type": "object", "properties": {}}
    assert CustomTool("sql").input_schema["required"] == ["input"]


@pytest.mark.parametrize(
    ("call", "read"),
    [
        (ToolCall("c", "find", '{"city": "Paris"}'), {"city": "Paris"}),
        (ToolCall("c", "find", ""), {}),
        (ToolCall("c", "find", '{"city": '), {"arguments": '{"city": '}),
        (ToolCall("c", "find", "[1]"), {"arguments": "[1]"}),
        (ToolCall("c", "sql", '{"select": 1}', "custom"), {"input": '{"select": 1}'}),
    ],
    ids=["object", "nothing", "broken", "array", "free text"],
)
def test_the_input_of_a_call_is_an_object_whatever_the_model_has_written(call: ToolCall, read: Any) -> None:
    assert call.input == read


# parameters


@requirement("agents.parameters")
def test_the_parameters_that_were_sent_can_be_passed_on_as_they_are() -> None:
    assert Sampling().given() == {}
    sent = Sampling(temperature=0, max_tokens=5, stop=("x",), logit_bias={"1": 2}, reasoning_effort="low")
    assert sent.given() == {
        "temperature": 0,
        "max_tokens": 5,
        "stop": ("x",),
        "logit_bias": {"1": 2},
        "reasoning_effort": "low",
    }
    assert Sampling(**sent.given()) == sent


@requirement("agents.parameters")
@pytest.mark.parametrize("wrong", [{"parameters": "temperature"}, {"parameters": {"temprature"}}, {"approvals": "yes"}])
def test_a_capability_that_there_is_not_is_refused_when_it_is_declared(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"temperature|yes_no"):
        Capabilities(**wrong)


# the schema of an answer


def formatted(**wanted: Any) -> AgentRequest:
    messages = [{"role": "user", "content": "hi"}]
    return parse_chat(dumps({"model": "m", "messages": messages, "response_format": wanted})).request


@requirement("agents.parameters")
def test_the_schema_that_an_answer_has_to_follow_needs_no_digging() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    wanted = formatted(type="json_schema", json_schema={"name": "city", "schema": schema, "strict": True})
    assert wanted.json_schema == JsonSchema("city", schema, strict=True)
    assert formatted(type="json_schema", json_schema={"name": "any"}).json_schema == ("any", {"type": "object"}, False)
    assert formatted(type="json_object").json_schema is None
    assert formatted(type="text").json_schema is None


# pictures, speech, documents


@requirement("agents.parts")
@pytest.mark.parametrize(
    ("part", "media_type", "content"),
    [
        (ImagePart(PNG_URL), "image/png", PNG),
        (ImagePart(PNG_URL.replace("data:", "DATA:").replace(";base64", ";x=y;BASE64")), "image/png", PNG),
        (ImagePart("data:,a%20b"), "text/plain", b"a b"),
        (ImagePart("https://x.example/data:image/png"), None, None),
        (AudioPart("QUJD", "wav"), "audio/wav", b"ABC"),
        (AudioPart("QUJD", "mp3"), "audio/mpeg", b"ABC"),
        (FilePart(file_data="QUJD", filename="a.pdf"), "application/pdf", b"ABC"),
        (FilePart(file_data="QUJD"), None, b"ABC"),
        (FilePart(file_data="data:text/csv;base64,QUJD", filename="a.pdf"), "text/csv", b"ABC"),
        (FilePart(file_url="https://x.example/a.pdf"), None, None),
        (FilePart(file_id="file_1", filename="a.txt"), "text/plain", None),
    ],
)
def test_what_a_part_holds_is_told_as_bytes_and_type(
    part: ImagePart | AudioPart | FilePart, media_type: str | None, content: bytes | None
) -> None:
    assert (part.media_type, part.content) == (media_type, content)


@requirement("agents.parts")
@pytest.mark.parametrize(
    "part",
    [
        ImagePart("data:image/png;base64"),
        ImagePart("data:image/png;base64,#"),
        ImagePart("data:image/png;base64,QUJ"),
        ImagePart("data:image/png;base64,\u00e4"),
        AudioPart("no base64", "wav"),
        FilePart(file_data="#"),
    ],
)
def test_a_malformed_part_is_the_clients_error(part: ImagePart | AudioPart | FilePart) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _ = part.content
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, "messages", "invalid_value")


# conversations


@requirement("agents.turns")
def test_instructions_are_one_text_wherever_they_stood() -> None:
    said = (SystemMessage("Be kind."), user("hi"), SystemMessage(" "), SystemMessage("Be brief.", "developer"))
    assert asked(*said).system == "Be kind.\n\nBe brief."
    assert asked(user("hi")).system == ""


@requirement("agents.turns")
def test_a_conversation_is_told_in_turns_with_the_results_first() -> None:
    said = asked(
        SystemMessage("Be kind."),
        user("one"),
        user("two"),
        assistant("Let me see.", "c1", reasoning="hm"),
        SystemMessage("Faster."),
        assistant("", "c2", reasoning="hm hm"),
        result("c1"),
        result("c2"),
        user("and?"),
        assistant("So."),
    )
    first, called, answered, last = said.turns
    assert first == UserTurn((), (TextPart("one"), TextPart("two")))
    assert isinstance(called, AssistantMessage)
    assert (called.text, [call.call_id for call in called.tool_calls]) == ("Let me see.\n", ["c1", "c2"])
    assert called.reasoning == "hm\n\nhm hm"
    assert answered == UserTurn((result("c1"), result("c2")), (TextPart("and?"),))
    assert isinstance(answered, UserTurn)
    assert answered.text == "and?"
    assert last is said.messages[-1]
    assert asked().turns == ()


MESSAGES = st.lists(
    st.sampled_from(
        [
            SystemMessage("s"),
            user("u"),
            assistant("a"),
            assistant("a", "c"),
            result("c"),
            AssistantMessage((RefusalPart("no"),)),
        ]
    ),
    max_size=12,
)


@requirement("agents.turns")
@given(MESSAGES)
def test_turns_alternate_and_lose_nothing_but_instructions(messages: list[Message]) -> None:
    turns = asked(*messages).turns
    sides = [type(turn) for turn in turns]
    assert all([one is not other for one, other in pairwise(sides)])
    spoken = [m for m in messages if isinstance(m, AssistantMessage)]
    assert [p for t in turns if isinstance(t, AssistantMessage) for p in t.parts] == [
        p for m in spoken for p in m.parts
    ]
    assert [c for t in turns if isinstance(t, AssistantMessage) for c in t.tool_calls] == [
        c for m in spoken for c in m.tool_calls
    ]
    heard = [m for m in messages if isinstance(m, UserMessage)]
    assert [p for t in turns if isinstance(t, UserTurn) for p in t.parts] == [p for m in heard for p in m.parts]
    results = [m for m in messages if isinstance(m, ToolMessage)]
    assert [r for t in turns if isinstance(t, UserTurn) for r in t.results] == results


@requirement("agents.turns")
def test_a_transcript_names_who_has_said_what() -> None:
    said = (SystemMessage("Be kind."), user("hi"), assistant("", "c1"), result("c1"), assistant("Hello."))
    told = "System:\nBe kind.\n\nUser:\nhi\n\nResult of find:\nresult of c1\n\nAssistant:\nHello."
    assert transcript(said) == told


@requirement("agents.turns")
def test_nothing_is_typed_before_it_is_asked_for() -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}]
    request = parse_chat(dumps({"model": "m", "messages": messages})).request
    assert (request.prompt, "messages" in vars_of(request)) == ("hi", False)
    assert (request.system, request.turns) == ("s", (UserTurn((), (TextPart("hi"),)),))
    assert "messages" in vars_of(request)


def vars_of(request: AgentRequest) -> set[str]:
    """Return the fields that exist without `__getattr__`."""
    found: set[str] = set()
    for name in ("messages", "prompt"):
        try:
            object.__getattribute__(request, name)
            found.add(name)
        except AttributeError:
            pass
    return found


# usage


@requirement("agents.usage")
def test_a_counter_that_only_grows_is_told_in_increments() -> None:
    before, now = UsageReported(10, 4, cached_tokens=2), UsageReported(25, 9, 5, 3)
    assert now.since(before) == UsageReported(15, 5, 3, 3)
    assert before.since(UsageReported(0, 0)) == before
    assert UsageReported(3, 1).since(before) == UsageReported(0, 0)  # another counter has started
