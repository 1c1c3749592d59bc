"""Streams conform to the event order and to the SDK's types."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any, get_args

import anthropic.types as stable
import anthropic.types.beta as types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openai_compat.agent_request import AgentRequest, FunctionTool, ToolChoice
from openai_compat.errors import AgentError, RateLimited
from openai_compat.events import (
    Citation,
    Finished,
    MediaDelta,
    MessageBreak,
    Paused,
    PendingCall,
    ReasoningDelta,
    RefusalDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)
from openai_compat.testing.strategies import event_lists
from openai_compat.turns.event_contract import EventContract
from openai_compat.wire.anthropic_messages.conversation import EMPTY_ANSWER_TEXT
from openai_compat.wire.anthropic_messages.errors import AnthropicErrors
from openai_compat.wire.anthropic_messages.serialize import AnswerWriter, MessageForm
from openai_compat.wire.anthropic_messages.signatures import open_seal, seal_signature
from openai_compat.wire.reducer import Item, Usage
from tests.requirements import requirement
from tests.wire.anthropic_messages.reading import (
    EVENTS,
    approval_questions,
    check_order,
    check_types,
    fold_stream,
    parse_stream,
    write_answer,
)

OWN: list[Item] = [
    ToolCallStarted("o", "look", "agent"),
    ToolCallDelta("o", '{"a": 1}'),
    ToolCallReady("o", "look", '{"a": 1}', "agent"),
    ToolResult("o", "found"),
]
CALLED: list[Item] = [
    ToolCallStarted("c", "find", "client"),
    ToolCallStarted("d", "find", "client"),
    ToolCallDelta("d", "{}"),
    ToolCallDelta("c", '{"q": "x"}'),
    ToolCallReady("d", "find", "{}", "client"),
    ToolCallReady("c", "find", '{"q": "x"}', "client"),
    Paused((PendingCall("d", "find", "{}"), PendingCall("c", "find", '{"q": "x"}'))),
]
FORMS: Any = st.fixed_dictionaries(
    {
        "thinking": st.sampled_from(["hidden", "signed", "shown"]),
        "own_tools": st.sampled_from(["blocks", "hidden", "thinking", "text"]),
    }
)


def contract_items(said: list[Any]) -> list[Item]:
    """Return the agent's items as the server processes them."""
    request = AgentRequest(
        model="agent",
        messages=(),
        raw_messages=[],
        tools=(FunctionTool("find"),),
        tool_choice=ToolChoice(frozenset(["find"])),
    )
    contract = EventContract(request, counts_tokens=True)
    return [event for item in said for event in contract.feed(item)] + contract.end()


@requirement("anthropic.order")
@settings(max_examples=40)
@given(event_lists(["find"]), FORMS, st.lists(st.integers(0, 30), max_size=3))
def test_whatever_an_agent_says_is_in_order_and_plain_is_the_fold_of_the_stream(
    said: list[Any], form: dict[str, Any], cuts: list[int]
) -> None:
    items, usage = contract_items(said), Usage()
    for item in items:
        if isinstance(item, UsageReported):
            usage.add(item)
    writer = AnswerWriter(MessageForm(id="msg_1", model="agent", streams=True, **form), approval_questions)
    places = sorted({0, *[cut for cut in cuts if cut < len(items)], len(items)})
    data = b"".join([writer.feed(items[a:b]) for a, b in pairwise(places)])
    events = parse_stream(data + writer.end(usage))
    check_order(events)
    check_types(events)
    plain = json.loads(write_answer(items, usage, streams=False, **form))
    assert fold_stream(events) == plain
    types.BetaMessage.model_validate(plain, strict=False)
    assert [block for block in plain["content"] if block["type"] == "tool_use" or block.get("text", "").strip()]


@requirement("anthropic.once")
def test_calls_of_the_clients_are_written_at_the_end_one_after_the_other() -> None:
    writer = AnswerWriter(MessageForm(id="msg_1", model="agent", streams=True), approval_questions)
    before = parse_stream(writer.feed(["Let me look.", *CALLED[:-1]]))
    assert "tool_use" not in json.dumps(before), "Claude Code would run it, though the answer may still fail"
    events = before + parse_stream(writer.feed(CALLED[-1:]) + writer.end(Usage()))
    check_order(events)
    starts = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    assert all(start["input"] == {} for start in starts[1:]), "Claude Code reads only the deltas"
    message = fold_stream(events)
    assert [(b["id"], b["input"]) for b in message["content"][1:]] == [("c", {"q": "x"}), ("d", {})]
    assert message["stop_reason"] == "tool_use"


@requirement("anthropic.once")
@pytest.mark.parametrize(
    "said",
    [
        [],
        ["Half an answ"],
        [ReasoningDelta("Hm")],
        [*CALLED[:-1]],
        ["one", MessageBreak(), ReasoningDelta("two")],
    ],
)
def test_a_block_is_whole_before_an_error_and_no_call_is(said: list[Item]) -> None:
    writer = AnswerWriter(MessageForm(id="msg_1", model="agent", streams=True, thinking="shown"), approval_questions)
    data = writer.feed(said)
    events = parse_stream(
        data + writer.events_before_error() + AnthropicErrors().frame(AgentError("It broke.", code="broken"), "req_1")
    )
    names = [event["type"] for event in events]
    assert names[-2:] == ["content_block_stop", "error"]
    assert names.count("content_block_start") == names.count("content_block_stop")
    assert "tool_use" not in json.dumps(events)


@requirement("anthropic.once")
@pytest.mark.parametrize(
    "error", [AgentError("broken"), AgentError("late", status=504), RateLimited("much"), AgentError("no", status=400)]
)
def test_no_error_in_a_stream_has_a_type_that_claude_code_repeats(error: Any) -> None:
    (event,) = parse_stream(AnthropicErrors().frame(error, "req_1"))
    assert event["error"]["type"] not in ("api_error", "overloaded_error", "timeout_error", "rate_limit_error")


@requirement("anthropic.once")
@pytest.mark.parametrize("said", [[], [" "], [ReasoningDelta("Hm")], [*OWN]])
def test_an_answer_that_shows_nothing_says_so(said: list[Item]) -> None:
    plain = json.loads(write_answer([*said, Finished()], streams=False, thinking="shown", own_tools="blocks"))
    assert plain["content"][-1]["text"] == EMPTY_ANSWER_TEXT


@requirement("anthropic.order")
def test_own_tools_are_whole_blocks_that_nobody_runs_or_lines_or_nothing() -> None:
    def shown(own_tools: str) -> list[dict[str, Any]]:
        items: list[Item] = ["Look: ", *OWN, MessageBreak(), "Found.", Finished()]
        events = parse_stream(write_answer(items, streams=True, thinking="shown", own_tools=own_tools))
        check_order(events)
        content: list[dict[str, Any]] = fold_stream(events)["content"]
        return content

    use, result = shown("blocks")[1:3]
    assert use == {"type": "mcp_tool_use", "id": "o", "name": "look", "server_name": "agent", "input": {"a": 1}}
    assert result["content"] == [{"type": "text", "text": "found"}]
    assert [block["text"] for block in shown("hidden")] == ["Look: ", "Found."]
    assert [block["type"] for block in shown("thinking")] == ["text", "thinking", "text"]
    assert [block["text"] for block in shown("text")][1:3] == ["[⚙ Running look …]\n", "[⚙ look done]\n"]


@requirement("anthropic.order")
def test_the_numbers_of_the_cache_add_up() -> None:
    usage = Usage()
    usage.add(UsageReported(100, 20, cached_tokens=60, reasoning_tokens=7, cache_write_tokens=30))
    told = json.loads(write_answer(["Hi", Finished()], usage, streams=False))["usage"]
    read, made = told["cache_read_input_tokens"], told["cache_creation_input_tokens"]
    assert (told["input_tokens"], read, made) == (10, 60, 30)
    assert told["output_tokens_details"] == {"thinking_tokens": 7}


def test_tokens_that_nobody_reports_are_estimated() -> None:
    told = json.loads(write_answer(["x" * 40, Finished()], streams=False, estimate=lambda: 12))["usage"]
    assert (told["input_tokens"], told["output_tokens"]) == (12, 10)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (Finished(), "end_turn"),
        (Finished("stop", "END"), "stop_sequence"),
        (Finished("length"), "max_tokens"),
        (Finished("content_filter"), "refusal"),
        (Finished("tool_calls"), "end_turn"),
        (Paused((PendingCall("a", "rm", "{}", "approval"),)), "end_turn"),
    ],
)
def test_the_end_of_a_turn_has_its_reason(end: Item, reason: str) -> None:
    told = json.loads(write_answer(["Hi", end], streams=False))
    assert (told["stop_reason"], told["stop_sequence"]) == (reason, getattr(end, "stop_sequence", None))


def test_a_refusal_is_told_in_words_and_why() -> None:
    told = json.loads(write_answer([RefusalDelta("I will "), RefusalDelta("not."), Finished()], streams=False))
    assert told["content"] == [{"type": "text", "text": "I will not."}]
    assert told["stop_details"] == {"type": "refusal", "category": None, "explanation": "I will not."}


def test_a_question_to_a_person_is_a_text_of_its_own() -> None:
    asked = Paused((PendingCall("a", "rm", "{}", "approval"),))
    told = json.loads(write_answer(["I clean up.", asked], streams=False))
    assert told["content"][1]["text"] == "May I run rm with {}? Answer yes, no or always."


def test_sources_are_citations_of_the_open_text_and_files_are_words() -> None:
    items: list[Item] = ["It is.", Citation("https://a.example", "A", 0, 6), MediaDelta(b"x", "image/png"), Finished()]
    text, file = json.loads(write_answer(items, streams=False))["content"]
    assert text["citations"][0]["url"] == "https://a.example"
    assert "image/png" in file["text"]


@requirement("anthropic.order")
def test_thinking_is_signed_with_what_only_the_same_model_gets_back() -> None:
    items: list[Item] = [
        ReasoningDelta("First."),
        ReasoningDelta("", "proof"),
        ReasoningDelta("Second."),
        ReasoningDelta("", "secret", redacted=True),
        "Done.",
        Finished(),
    ]
    first, second, redacted, text = fold_stream(parse_stream(write_answer(items, streams=True, thinking="shown")))[
        "content"
    ]
    assert open_seal("agent", first["signature"]) == "proof"
    assert open_seal("other", first["signature"]) is None
    assert (second["thinking"], open_seal("agent", second["signature"])) == ("Second.", None)
    assert open_seal("agent", redacted["data"]) == "secret"
    assert text["text"] == "Done."
    omitted = json.loads(write_answer(items, streams=False, thinking="signed"))["content"]
    assert [block.get("thinking") for block in omitted] == ["", "", None, None]
    assert [block["type"] for block in json.loads(write_answer(items, streams=False))["content"]] == ["text"]


@settings(max_examples=30)
@given(st.text())
def test_any_text_of_a_strangers_is_no_signature(text: str) -> None:
    assert open_seal("agent", text) is None
    assert open_seal(text, seal_signature(text, text)) in (text, None)


@requirement("anthropic.types")
def test_the_sdk_has_gained_no_event_delta_or_field_that_was_not_looked_at() -> None:
    union = get_args(get_args(types.BetaRawMessageStreamEvent)[0])
    assert {event.__name__ for event in union} == {
        "BetaRawMessageStartEvent",
        "BetaRawMessageDeltaEvent",
        "BetaRawMessageStopEvent",
        "BetaRawContentBlockStartEvent",
        "BetaRawContentBlockDeltaEvent",
        "BetaRawContentBlockStopEvent",
    }
    deltas = get_args(get_args(stable.RawContentBlockDelta)[0])
    assert {delta.__name__ for delta in deltas} == {
        "TextDelta",
        "InputJSONDelta",
        "CitationsDelta",
        "ThinkingDelta",
        "SignatureDelta",
    }
    fields = {
        stable.Message: "container content diagnostics id model role stop_details stop_reason stop_sequence type usage",
        stable.Usage: "cache_creation cache_creation_input_tokens cache_read_input_tokens inference_geo input_tokens "
        "output_tokens output_tokens_details server_tool_use service_tier speed",
        stable.TextBlock: "citations text type",
        stable.ThinkingBlock: "signature thinking type",
        stable.RedactedThinkingBlock: "data type",
        stable.ToolUseBlock: "caller id input name toolset_name type",
        stable.RefusalStopDetails: "category explanation type",
        stable.ModelInfo: "capabilities created_at deprecated_at display_name id lifecycle line max_input_tokens "
        "max_tokens retires_at type",
        stable.MessageTokensCount: "input_tokens",
        types.BetaMCPToolUseBlock: "id input name server_name type",
        types.BetaMCPToolResultBlock: "content is_error tool_use_id type",
    }
    for model, known in fields.items():
        assert sorted(model.model_fields) == known.split(), model.__name__
    assert set(get_args(stable.StopReason)) == {
        "end_turn",
        "max_tokens",
        "stop_sequence",
        "tool_use",
        "pause_turn",
        "refusal",
        "model_context_window_exceeded",
    }
    assert EVENTS is not None
