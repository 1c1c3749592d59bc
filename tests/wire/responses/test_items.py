"""Maps each event of an agent to Response items and events."""

from __future__ import annotations

import base64
import math
from typing import Any

import pytest

from openai_compat.errors import AgentError, OpenAICompatError, RateLimited, Unavailable
from openai_compat.events import (
    Citation,
    Compacted,
    Finished,
    MediaDelta,
    MessageBreak,
    Notice,
    Paused,
    PendingCall,
    Progress,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)
from openai_compat.wire.items.parse import summary_of
from openai_compat.wire.reducer import Item
from openai_compat.wire.responses.serialize.stream import ApprovedCall, ResponseStream
from tests.support.responses_stream import Ending, Json, form, frames, names, of, told

OPEN_RESPONSES_KEYS = {
    "id",
    "object",
    "created_at",
    "completed_at",
    "status",
    "incomplete_details",
    "model",
    "previous_response_id",
    "instructions",
    "output",
    "error",
    "tools",
    "tool_choice",
    "truncation",
    "parallel_tool_calls",
    "text",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "top_logprobs",
    "temperature",
    "reasoning",
    "usage",
    "max_output_tokens",
    "max_tool_calls",
    "store",
    "background",
    "service_tier",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
}
LOOK: list[Item] = [
    ToolCallStarted("o", "look", "agent"),
    ToolCallDelta("o", '{"at":'),
    ToolCallDelta("o", '"it"}'),
    ToolCallReady("o", "look", '{"at":"it"}', "agent"),
]
ASKED = Paused((PendingCall("o", "look", '{"at":"it"}', "approval"),))


def output_items(*items: Item, **fields: Any) -> list[Json]:
    return told(*items, **fields)[0][-1]["response"]["output"]


def message_texts(output: list[Json]) -> list[str]:
    return ["".join(part["text"] for part in item["content"]) for item in output if item["type"] == "message"]


def status_lines(events: list[Json]) -> list[tuple[str, str, bool]]:
    """Return each status line: the event that carried it, its text, and its `done` flag."""
    return [
        (event["type"].removeprefix("response."), event["event"]["data"]["description"], event["event"]["data"]["done"])
        for event in events
        if "event" in event
    ]


def test_every_response_has_all_keys_that_strict_clients_want_from_its_first_event_on() -> None:
    events, _ = told("a")
    for event in of(events, "created", "in_progress", "completed"):
        assert set(event["response"]) >= OPEN_RESPONSES_KEYS
    assert events[0]["response"]["temperature"] == 1.0  # null in the request


def test_the_plain_answer_of_a_turn_that_says_nothing_has_an_empty_message() -> None:
    (message,) = output_items()
    assert message["content"] == [{"type": "output_text", "text": "", "annotations": [], "logprobs": []}]


@pytest.mark.parametrize("item", [MediaDelta(b"a", "image/png"), ToolCallStarted("c", "find", "client")])
def test_a_turn_with_something_to_act_on_needs_no_message(item: Item) -> None:
    assert [item["type"] for item in output_items(item)] == [output_items(item)[0]["type"]]
    assert output_items(item)[0]["type"] != "message"


def test_text_is_one_message_until_something_else_comes() -> None:
    said = output_items("a", "b", MessageBreak(), "c", ReasoningDelta("hm"), "d", *LOOK, "e", ToolResult("o", "x"), "f")
    assert [item["type"] for item in said] == ["message", "message", "reasoning", "message", "mcp_call", "message"]
    assert message_texts(said) == ["ab", "c", "d", "ef"]


def test_a_break_before_or_after_all_text_makes_no_message() -> None:
    assert message_texts(output_items(MessageBreak(), "a", MessageBreak(), MessageBreak())) == ["a"]


def test_another_phase_is_another_message() -> None:
    said = output_items(TextDelta("a", phase="commentary"), TextDelta("b", phase="commentary"), "c")
    assert [(item.get("phase"), text) for item, text in zip(said, message_texts(said), strict=True)] == [
        ("commentary", "ab"),
        (None, "c"),
    ]


def test_a_refusal_is_a_part_of_the_message_it_belongs_to() -> None:
    (message,) = output_items("a", RefusalDelta("I "), RefusalDelta("won't."))
    assert [part["type"] for part in message["content"]] == ["output_text", "refusal"]
    assert message["content"][1]["refusal"] == "I won't."


def test_citations_point_to_what_is_shown_where_activity_is_within_the_text() -> None:
    stream = ResponseStream(form(visibility="text"))
    call = [ToolCallStarted("1", "find", "agent"), ToolCallReady("1", "find", "{}", "agent"), ToolResult("1", "it")]
    # Batched as an agent emits them: the first batch is text only.
    for batch in (["0123"], call, ["4567"], [Citation("https://a.example/", "A", 2, 4), Citation("u", "B", 5, 7)]):
        stream.feed(batch)
    stream.finish()
    (part,) = [part for item in stream.response()["output"] for part in item["content"]]
    shown = [part["text"][note["start_index"] : note["end_index"]] for note in part["annotations"]]
    assert shown == ["23", "56"]


def test_citations_count_from_the_beginning_of_their_own_part() -> None:
    said = output_items("0123", MessageBreak(), "4567", Citation("https://a.example/", "A", 5, 7))
    (annotation,) = said[1]["content"][0]["annotations"]
    assert annotation == {
        "type": "url_citation",
        "url": "https://a.example/",
        "title": "A",
        "start_index": 1,
        "end_index": 3,
    }


def test_token_probabilities_are_shown_if_they_were_asked_for() -> None:
    token = {"token": "hé", "logprob": -0.5, "bytes": None, "top_logprobs": [{"token": "h", "logprob": -math.inf}]}
    said = TextDelta("hé", [token])
    events, _ = told(said, include_logprobs=True)
    written = {
        "token": "hé",
        "logprob": -0.5,
        "bytes": [104, 195, 169],
        "top_logprobs": [{"token": "h", "logprob": -9999.0, "bytes": [104]}],
    }
    assert of(events, "output_text.delta")[0]["logprobs"] == [written]
    assert of(events, "output_text.done")[0]["logprobs"] == [written]
    assert events[-1]["response"]["output"][0]["content"][0]["logprobs"] == [written]
    assert output_items(said)[0]["content"][0]["logprobs"] == []


def test_thinking_is_a_summary_and_never_has_a_null_in_it() -> None:
    (thought, _) = output_items(ReasoningDelta("hm, "), ReasoningDelta("so"))
    assert thought["summary"] == [{"type": "summary_text", "text": "hm, so"}]
    assert None not in thought.values()


def test_thinking_goes_on_over_a_break_between_messages() -> None:
    assert [item["type"] for item in output_items(ReasoningDelta("a"), MessageBreak(), ReasoningDelta("b"), "c")] == [
        "reasoning",
        "message",
    ]


def test_thinking_that_was_cut_off_says_so() -> None:
    for ending, status in (("finish", None), ("fail", "incomplete")):
        events, _ = told(ReasoningDelta("hm"), ending=ending)
        assert of(events, "reasoning_summary_part.done")[0].get("status") == status


def test_calls_of_the_client_may_be_interleaved() -> None:
    said: list[Item] = [
        ToolCallStarted("a", "find", "client"),
        ToolCallStarted("b", "write_code", "client"),
        ToolCallDelta("b", "print"),
        ToolCallDelta("a", '{"x"'),
        "meanwhile",
        ToolCallDelta("a", ":1}"),
        ToolCallReady("a", "find", '{"x":1}', "client"),
        ToolCallDelta("b", "()"),
        ToolCallReady("b", "write_code", "print()", "client"),
    ]
    events, stream = told(*said, Paused((PendingCall("a", "find", ""), PendingCall("b", "write_code", ""))))
    function, custom, message = events[-1]["response"]["output"]
    assert (function["call_id"], function["name"], function["arguments"]) == ("a", "find", '{"x":1}')
    assert (custom["type"], custom["call_id"], custom["input"]) == ("custom_tool_call", "b", "print()")
    assert message["content"][0]["text"] == "meanwhile"
    assert {item["status"] for item in (function, custom, message)} == {"completed"}
    assert [event["output_index"] for event in of(events, "output_item.done")] == [0, 1, 2]
    assert (stream.status, stream.approvals) == ("completed", {})


def test_the_agents_own_tools_are_calls_of_a_server_with_its_name() -> None:
    events, _ = told(*LOOK, ToolResult("o", "seen"))
    assert events[-1]["response"]["output"][0] == {
        "id": "mcp_0",
        "type": "mcp_call",
        "status": "completed",
        "server_label": "agent",
        "name": "look",
        "arguments": '{"at":"it"}',
        "output": "seen",
        "error": None,
    }
    assert status_lines(events) == [
        ("mcp_call.in_progress", "Running look …", False),
        ("mcp_call.completed", "look done", True),
    ]


@pytest.mark.parametrize(
    ("result", "status"), [({"is_error": True}, "look failed"), ({"denied": True}, "look was denied")]
)
def test_a_tool_that_fails_or_was_denied_says_so_as_an_error(result: dict[str, bool], status: str) -> None:
    events, _ = told(*LOOK, ToolResult("o", "no eyes", **result))
    call = events[-1]["response"]["output"][0]
    assert (call["status"], call["output"]) == ("failed", None)
    assert call["error"]["content"] == [{"type": "text", "text": "no eyes"}]
    assert status_lines(events)[-1] == ("mcp_call.failed", status, True)


def test_a_call_whose_result_the_agent_does_not_tell_is_completed_without_output() -> None:
    call = output_items(*LOOK)[0]
    assert (call["status"], call["output"], call["error"]) == ("completed", None, None)


def test_the_result_of_a_call_that_was_approved_names_the_request() -> None:
    approved = {"o": ApprovedCall("mcpr_1", "look", '{"at":"it"}')}
    for said in ([ToolResult("o", "seen")], [*LOOK, ToolResult("o", "seen")]):
        call = output_items(*said, approved=approved)[0]
        assert (call["name"], call["arguments"], call["output"]) == ("look", '{"at":"it"}', "seen")
        assert call["approval_request_id"] == "mcpr_1"


@pytest.mark.parametrize("visibility", ["hidden", "status", "reasoning", "text"])
def test_own_tools_have_no_items_where_they_are_to_be_seen_elsewhere(visibility: str) -> None:
    events, _ = told("a", *LOOK, ToolResult("o", "seen"), MessageBreak(), "b", visibility=visibility)
    said = events[-1]["response"]["output"]
    assert "mcp_call" not in [item["type"] for item in said]
    assert [description for _, description, _ in status_lines(events)] == (
        ["Running look …", "look done"] if visibility == "status" else []
    )
    assert message_texts(said) == {"text": ["a[⚙ Running look …]\n[⚙ look done]\n", "b"]}.get(visibility, ["a", "b"])
    thoughts = "".join(part["text"] for item in said if item["type"] == "reasoning" for part in item["summary"])
    assert thoughts == ("Running look …\nlook done\n" if visibility == "reasoning" else "")


def test_progress_and_notices_ride_on_an_event_that_clients_know() -> None:
    events, _ = told("a", Progress("step", "1", "Half way"), Progress("step", "1", "There", done=True), Notice("Hot!"))
    assert status_lines(events) == [
        ("in_progress", "Half way", False),
        ("in_progress", "There", True),
        ("in_progress", "Hot!", True),
    ]
    assert [event["response"]["output"] for event in of(events, "in_progress")] == [[]] * 4
    assert len(events[-1]["response"]["output"]) == 1, "the message goes on"


def test_a_summary_can_be_read_back_from_its_item() -> None:
    (item, _) = output_items(Compacted("They met 👋 in Paris."))
    assert item["type"] == "compaction"
    assert summary_of(item) == "They met 👋 in Paris."


@pytest.mark.parametrize(
    ("media_type", "written"),
    [("image/jpeg", {"output_format": "jpeg"}), ("image/svg+xml", {"output_format": "svg"}), ("image/heic", {})],
)
def test_pictures_are_items_of_their_own(media_type: str, written: Json) -> None:
    (item,) = output_items(MediaDelta(b"abcd", media_type))
    assert base64.b64decode(item.pop("result")) == b"abcd"
    assert {**item, "id": ""} == {"id": "", "type": "image_generation_call", "status": "completed", **written}


def test_speech_is_base64_that_can_be_joined() -> None:
    pieces = [
        MediaDelta(b"abcde", "audio/wav", "Hel"),
        MediaDelta(b"", "audio/wav", "lo"),
        MediaDelta(b"fg", "audio/wav"),
    ]
    events, _ = told(*pieces)
    assert base64.b64decode("".join(event["delta"] for event in of(events, "audio.delta")), validate=True) == b"abcdefg"
    assert "".join(event["delta"] for event in of(events, "audio.transcript.delta")) == "Hello"
    spoken = [name for name in names(events) if name.startswith("audio.")]
    assert spoken[-3:] == ["audio.delta", "audio.done", "audio.transcript.done"], "what is left over, and the ends"


def test_clients_that_declared_the_agents_label_are_asked_by_an_item() -> None:
    events, stream = told("Wait.", ASKED, approval_labels=frozenset(["agent", "other"]))
    _, asked = events[-1]["response"]["output"]
    assert asked == {
        "id": "mcpr_1",
        "type": "mcp_approval_request",
        "server_label": "agent",
        "name": "look",
        "arguments": '{"at":"it"}',
    }
    assert stream.approvals == {"mcpr_1": ASKED.pending[0]}
    assert stream.status == "completed"


@pytest.mark.parametrize("labels", [frozenset[str](), frozenset(["other"])])
def test_other_clients_are_asked_in_text(labels: frozenset[str]) -> None:
    said, stream = told("Wait.", ASKED, approval_labels=labels)
    (asked,) = stream.approvals
    question = f'May I run look with {{"at":"it"}}? Answer yes, no or always. [{asked}]'
    assert message_texts(said[-1]["response"]["output"]) == ["Wait.", question]
    assert list(stream.approvals.values()) == list(ASKED.pending)


def test_a_call_that_waits_for_approval_is_not_shown_as_done() -> None:
    events, _ = told(*LOOK, ASKED, approval_labels=frozenset(["agent"]))
    assert [(item["type"], item.get("status")) for item in events[-1]["response"]["output"]] == [
        ("mcp_call", "incomplete"),
        ("mcp_approval_request", None),
    ]
    assert of(events, "mcp_call.completed") == []


def test_usage_is_null_until_the_end_and_then_has_both_details() -> None:
    events, _ = told(UsageReported(10, 5, 3, 2), UsageReported(1, 1))
    assert events[1]["response"]["usage"] is None
    assert events[-1]["response"]["usage"] == {
        "input_tokens": 11,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 6,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 17,
    }
    unreported = told("a")[0][-1]["response"]["usage"]
    assert (unreported["total_tokens"], unreported["reported"]) == (0, False)


@pytest.mark.parametrize(("reason", "told_as"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_an_answer_that_was_cut_is_incomplete_and_says_why(reason: Any, told_as: str) -> None:
    events, _ = told("a", Finished(reason))
    response = events[-1]["response"]
    assert events[-1]["type"] == "response.incomplete"
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": told_as})
    assert response["output"][0]["status"] == "incomplete"
    assert response["completed_at"] is None


def test_a_completed_response_says_when() -> None:
    events, _ = told("a", Finished())
    assert events[-1]["response"]["completed_at"] > events[-1]["response"]["created_at"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AgentError("No."), "invalid_prompt"),
        (AgentError("No.", status=400), "invalid_prompt"),
        (Unavailable("No."), "invalid_prompt"),
        (AgentError("No.", should_retry=True), "server_error"),
        (RateLimited("No.", should_retry=True), "rate_limit_exceeded"),
    ],
)
def test_a_failure_has_the_code_that_keeps_agents_from_being_run_twice(error: OpenAICompatError, code: str) -> None:
    stream = ResponseStream(form())
    *_, event, failed = frames(stream.begin() + stream.feed(["a"]) + stream.fail(error))
    assert (event["type"], event["code"], event["message"]) == ("error", code, "No.")
    assert (event["error"]["code"], event["error"]["original_code"]) == (code, error.code)
    assert event["error"]["type"] not in ("server_error", "rate_limit_error")
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert (failed["response"]["error"]["code"], failed["response"]["error"]["original_code"]) == (code, error.code)
    assert failed["response"]["output"][0]["content"][0]["text"] == "a"


@pytest.mark.parametrize(("last", "ending"), [([], "fail"), ([], "cancel"), ([Finished("length")], "finish")])
def test_a_client_call_that_was_cut_off_is_never_done(last: list[Item], ending: Ending) -> None:
    begun: list[Item] = [ToolCallStarted("c", "find", "client"), ToolCallDelta("c", '{"x"')]
    events, stream = told(*begun, *last, ending=ending)
    assert of(events, "output_item.done", "function_call_arguments.done") == []
    (call,) = stream.output
    assert (call["type"], call.get("status")) == ("function_call", "incomplete")


def test_what_was_cancelled_keeps_what_was_said() -> None:
    events, stream = told("half an ans", *LOOK, ending="cancel")
    assert events[-1]["type"] == "response.incomplete"
    response = events[-1]["response"]
    assert (response["status"], response["incomplete_details"], stream.status) == ("cancelled", None, "cancelled")
    assert message_texts(response["output"]) == ["half an ans"]
    assert {item["status"] for item in response["output"]} == {"completed", "incomplete"}


def test_a_queued_response_begins_with_what_is_said_first() -> None:
    stream = ResponseStream(form(background=True))
    before = frames(stream.begin(queued=True))
    assert (names(before), stream.status, before[-1]["response"]["status"]) == (
        ["created", "queued"],
        "queued",
        "queued",
    )
    assert names(frames(stream.feed([UsageReported(1, 1)]))) == ["in_progress"]
    assert stream.status == "in_progress"
    assert names(frames(stream.feed(["a"])))[0] == "output_item.added"


def test_a_queued_response_may_be_begun_before_anything_is_said() -> None:
    stream = ResponseStream(form())
    stream.begin(queued=True)
    assert names(frames(stream.begin())) == ["in_progress"]
    assert stream.sequence == 2
